// A recording on the page: its name, progress, transcript and actions.

import { make, say } from "./dom.js";
import { FORMATS } from "./formats.js";
import { ACTIVE, SETTLED } from "./job.js";
import { languageName } from "./options.js";
import { Reading } from "./reading/reading.js";
import { clock, left, size, times } from "./times.js";

const TICK_MS = 250;
const COPIED_MS = 2_000;
const TELLING = new Set(["refused", "lost", "failed"]); // states that are shown with their reason
const ADVICE = / Please try again in \d+s\.$/; // the page does

let nextId = 1;

/** What each state says of a job. */
const SAYS = {
  waiting: () => ["Waiting in the queue"],
  uploading: (job) => ["Sending", `${Math.floor(job.sent * 100)} % of ${size(job.file.size)}`],
  queued: (job) => [job.position ? `${job.position} ahead in the queue` : "Reading the file"],
  running: (job) => [
    job.totalS ? `${clock(job.doneS)} of ${clock(job.totalS)}` : clock(job.doneS),
    job.speed && times(job.speed),
    job.leftS !== undefined && left(job.leftS),
  ],
  done: (job) => [clock(job.doneS), languageName(job.language), job.segments.length ? "" : "No speech found"],
  refused: (job) => [`Retrying in ${Math.max(0, Math.ceil((job.retryAt - Date.now()) / 1000))} s`],
  lost: () => ["Resumes when the server is back"],
  locked: () => ["Waiting for a key"],
  failed: () => ["Not transcribed"],
  cancelled: () => ["Cancelled"],
};

/** Emits `remove`. */
export class Card extends EventTarget {
  /** Whether words were changed that no export has. */
  unsaved = false;
  #reading;
  #timer;

  /**
   * `folded` shows the name and how far it is; a click on the name shows the rest.
   * `shaping` tells how subtitles are wanted now; `render` has the server write them, and rejects with a message.
   */
  constructor(job, { folded, shaping, render }) {
    super();
    this.job = job;
    this.shaping = shaping;
    this.render = render;
    this.#build(folded);
    this.#renew();
    job.addEventListener("change", () => this.#show());
    job.addEventListener("segment", ({ detail }) => {
      this.#reading.add(detail);
      this.#fold();
    });
    job.addEventListener("reset", () => this.#renew());
    this.#show();
  }

  /** What the job's state says, in one line. */
  get says() {
    return SAYS[this.job.state](this.job).filter(Boolean).join(" · ");
  }

  #build(folded) {
    const { job } = this;
    const id = `job-${nextId++}`;
    const unfolds = { "aria-expanded": String(!folded), "aria-controls": `${id}-body` };
    this.name = make("button", { type: "button", ...unfolds }, job.name);
    this.name.addEventListener("click", () => this.#toggle());
    this.state = make("p", { class: "state" });
    this.bar = make("progress", { max: 1, "aria-label": `Progress of ${job.name}` });
    this.message = make("p", { class: "message" });
    this.body = make("div", { class: "body", id: `${id}-body` });
    this.cancelButton = button("Cancel", () => job.cancel());
    this.againButton = button("Try again", () => job.retry());
    this.removeButton = button("Remove", () => this.#remove());
    this.copyButton = button("Copy text", () => this.#copy());
    this.exports = make(
      "div",
      { class: "exports", role: "group", "aria-label": "Save as" },
      this.copyButton,
      ...Object.entries(FORMATS).map(([suffix, { label }]) => button(label, () => this.#save(suffix))),
    );
    this.complaint = make("p", { class: "complaint", role: "alert", hidden: true });
    this.foot = make("div", { class: "foot" }, this.exports, this.cancelButton, this.againButton, this.removeButton);
    this.element = make(
      "article",
      { class: "job", "aria-labelledby": id },
      make("div", { class: "head" }, make("h2", { id, title: job.name }, this.name), this.state),
      this.bar,
      this.message,
      this.body,
      this.complaint,
      this.foot,
    );
  }

  #renew() {
    this.#reading?.destroy();
    this.unsaved = false;
    this.body.replaceChildren();
    this.#reading = new Reading(this.body, { media: this.job.file, name: this.job.name });
    this.#reading.addEventListener("change", () => (this.unsaved = true));
    if (this.job.totalS) this.#reading.setDuration(this.job.totalS);
    this.#fold();
  }

  #toggle() {
    this.name.ariaExpanded = String(this.name.ariaExpanded === "false");
    this.#fold();
  }

  /** There is nothing to show before the first words. */
  #fold() {
    this.name.disabled = !this.job.segments.length;
    this.body.hidden = this.name.ariaExpanded === "false" || !this.job.segments.length;
    if (this.body.hidden) this.#reading.pause(); // nothing on the page could stop it
  }

  #show() {
    const { job } = this;
    const { state } = job;
    if (this.element.dataset.state !== state) this.#enter(state);
    say(this.state, this.says);
    say(this.message, TELLING.has(state) ? job.message.replace(ADVICE, "") : "");
    this.message.hidden = !this.message.textContent;
    if (job.fraction === undefined) this.bar.removeAttribute("value");
    else this.bar.value = job.fraction;
    if (state === "running") this.#reading.progress({ done: job.doneS, total: job.totalS });
  }

  #enter(state) {
    this.element.dataset.state = state;
    this.bar.hidden = !ACTIVE.has(state);
    const focused = this.foot.contains(document.activeElement);
    this.cancelButton.hidden = SETTLED.has(state);
    this.againButton.hidden = !["failed", "cancelled", "refused"].includes(state);
    this.removeButton.hidden = !SETTLED.has(state);
    this.exports.hidden = !SETTLED.has(state) || !this.job.segments.length;
    if (focused && document.activeElement === document.body) { // what had it is hidden
      (SETTLED.has(state) ? this.removeButton : this.cancelButton).focus();
    }
    if (state === "done") this.#finish();
    clearInterval(this.#timer);
    if (state === "refused") this.#timer = setInterval(() => say(this.state, this.says), TICK_MS);
  }

  #finish() {
    this.#reading.setDuration(this.job.doneS);
    this.#reading.finish();
  }

  #remove() {
    clearInterval(this.#timer);
    this.#reading.destroy();
    this.dispatchEvent(new Event("remove"));
  }

  get #verbose() {
    return this.job.verbose(this.#reading.segments());
  }

  async #save(suffix) {
    this.#complain("");
    const wasUnsaved = this.unsaved;
    this.unsaved = false; // what is edited from here on is not in it
    try {
      this.#offer(suffix, await this.#write(suffix));
    } catch (error) {
      this.unsaved ||= wasUnsaved;
      this.#complain(`${FORMATS[suffix].label} was not saved: ${error.message} Text and JSON can be saved without the server.`);
    }
  }

  #write(suffix) {
    const { write } = FORMATS[suffix];
    if (write) return write(this.#verbose);
    return this.render({ ...this.#verbose, response_format: suffix, ...this.shaping() });
  }

  #complain(text) {
    say(this.complaint, text);
    this.complaint.hidden = !text;
  }

  #offer(suffix, content) {
    const blob = new Blob([content], { type: FORMATS[suffix].type });
    const href = URL.createObjectURL(blob);
    make("a", { href, download: `${this.job.name.replace(/\.[^.]*$/, "")}.${suffix}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), TICK_MS);
  }

  async #copy() {
    this.unsaved = false;
    await copy(FORMATS.txt.write(this.#verbose).trimEnd());
    this.copyButton.focus(); // it went with the text that was selected
    say(this.copyButton, "Copied");
    setTimeout(() => say(this.copyButton, "Copy text"), COPIED_MS);
  }
}

function button(label, act) {
  const element = make("button", { type: "button" }, label);
  element.addEventListener("click", act);
  return element;
}

// Without HTTPS a page of another machine has no clipboard but this one.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea", { class: "unseen" }, text);
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
