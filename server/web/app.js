// The page: builds its parts and connects them.

import { Api } from "./api.js";
import { Card } from "./card.js";
import { byId, say } from "./dom.js";
import { Job, SETTLED } from "./job.js";
import { KeyForm } from "./key.js";
import { Options } from "./options.js";
import { MOST, Queue } from "./queue.js";
import { Source } from "./source.js";
import { Status } from "./status.js";

class Page {
  #api = new Api();
  #queue = new Queue(this.#api);
  #options = new Options();
  #source = new Source();
  #status = new Status(this.#api);
  #key = new KeyForm(this.#api);
  #cards = new Set();

  start() {
    this.#source.addEventListener("files", ({ detail }) => this.#take(detail));
    this.#key.addEventListener("given", () => this.#learn());
    byId("options").addEventListener("toggle", () => this.#offer().catch(() => {})); // what was offered stays
    this.#status.addEventListener("gone", () => this.#gone(true));
    this.#status.addEventListener("back", () => this.#back());
    window.addEventListener("beforeunload", (event) => this.#leave(event));
    this.#status.look();
    this.#learn();
  }

  /** Ask for the models, which needs the key where there is one. */
  async #learn() {
    try {
      await this.#offer();
      this.#status.running = (await this.#api.get("api/ps")).models;
    } catch (error) {
      if (error.status === 401) this.#key.ask();
      return;
    }
    this.#key.accept();
    this.#status.look();
    this.#queue.resume("locked");
  }

  async #offer() {
    this.#options.offer((await this.#api.get("v1/models")).data);
  }

  #take(files) {
    const taken = files.slice(0, this.#queue.room);
    if (taken.length < files.length) this.#source.complain(`At most ${MOST} recordings can wait at a time.`);
    const request = this.#options.request();
    const cards = taken.map((file) => this.#card(new Job(file, request), taken.length > 1));
    // The newest are on top, and those that came together stay in their order.
    byId("jobs").prepend(...cards.map((card) => card.element));
    byId("source").classList.add("small");
    for (const { job } of cards) this.#queue.add(job);
  }

  #card(job, folded) {
    const card = new Card(job, {
      folded,
      shaping: () => this.#options.shaping(),
      render: (transcript) => this.#render(transcript),
    });
    this.#cards.add(card);
    job.addEventListener("change", () => this.#follow(card));
    card.addEventListener("remove", () => this.#remove(card));
    return card;
  }

  async #render(transcript) {
    try {
      return await this.#api.render(transcript);
    } catch (error) {
      if (error.status === 401) this.#key.ask();
      if (!error.status) this.#status.look();
      throw error;
    }
  }

  #follow({ job, says }) {
    const settled = SETTLED.has(job.state);
    if (settled) say(byId("live"), `${job.name}: ${says}. ${job.message}`);
    if (settled || (job.state === "running" && !job.doneS)) this.#status.look(); // it begins, or ends
    if (job.state === "locked") this.#key.ask();
    if (job.state === "lost") this.#find();
  }

  /** Whether the server is there after all: then what broke off goes on. */
  async #find() {
    if (await this.#status.look()) this.#queue.resume("lost");
  }

  #gone(isGone) {
    say(byId("gone"), isGone ? "The server does not respond. Work resumes when it is back." : "");
    byId("gone").hidden = !isGone;
  }

  #back() {
    this.#gone(false);
    this.#learn();
    this.#queue.resume("lost");
  }

  #remove(card) {
    const { job, element } = card;
    this.#queue.remove(job);
    this.#cards.delete(card);
    const next = element.nextElementSibling ?? element.previousElementSibling;
    element.remove();
    byId("source").classList.toggle("small", next !== null);
    const buttons = [...(next?.querySelectorAll("button:enabled") ?? [])];
    (buttons.find((button) => button.checkVisibility()) ?? byId("choose")).focus();
  }

  #leave(event) {
    const isUnfinished = ({ job, unsaved }) => unsaved || !SETTLED.has(job.state);
    if (this.#source.isRecording || [...this.#cards].some(isUnfinished)) event.preventDefault(); // the browser asks
  }
}

new Page().start();
