// A recording and its text, read along. What the page knows of it: `new Reading(element, {media, name})`, `add` for
// every `sotto.segment`, `segments()` for what stands there now; `change` when the user changed it.

import { button, make } from "../dom.js";
import { Editing } from "./editing.js";
import { Finding } from "./finding.js";
import { help, listen } from "./keys.js";
import { lastAtOrBefore } from "./ordered.js";
import { Player, STEP_S } from "./player.js";
import { TextView } from "./text.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { peaksOf } from "./waveform.js";

export class Reading extends EventTarget {
  #root;
  #undo;
  #help;
  #transcript = new Transcript();
  #text = new TextView(this.#transcript);
  #editing = new Editing(this.#text, this.#transcript);
  #finding = new Finding(this.#transcript, this.#text);
  #timeline = new Timeline();
  #gone = new AbortController();
  #media;
  #player;
  #seen = false;
  #drawn = false; // the waveform, or that there is none

  constructor(element, { media, name }) {
    super();
    this.#media = media;
    this.#player = new Player(media);
    this.#undo = button("Undo", "Undo the last edit", () => this.#undoOne());
    this.#undo.disabled = true;
    this.#help = help();
    const edit = button("Edit", "Edit the word at the cursor", () => this.#editing.begin(this.#text.cursor));
    const tools = make("div", { class: "reading-tools" }, this.#finding.element, edit, this.#undo);
    this.#root = make("section", { class: "reading", "aria-label": `Read along: ${name}` },
      this.#player.element, this.#timeline.element, tools, this.#text.element, this.#help);
    element.append(this.#root);
    this.#connect();
    listen(this.#root, this.#actions(), this.#gone.signal);
    this.#see();
  }

  /** What the server knows of the length; the browser's own word counts where it has one. */
  setDuration(seconds) {
    this.#player.told = seconds;
  }

  add(segment) {
    const added = this.#transcript.add(segment);
    this.#text.add(added);
    this.#timeline.add(added);
    this.#finding.refresh();
  }

  /** Seconds whose text is there, of how many if that is known. */
  progress({ done, total }) {
    if (total) this.setDuration(total);
    this.#timeline.done = done;
    if (!this.#player.begun) this.#text.showEnd();
  }

  /** All text is there. */
  finish() {
    this.#timeline.done = Infinity;
  }

  /** The segments as they stand, edits and all, as the server would send them. */
  segments() {
    return this.#transcript.toJSON();
  }

  pause() {
    this.#player.pause();
  }

  destroy() {
    this.#gone.abort();
    for (const part of [this.#player, this.#text, this.#finding, this.#timeline]) part.destroy();
    this.#root.remove();
  }

  #connect() {
    this.#player.addEventListener("time", () => this.#showTime());
    this.#player.addEventListener("duration", () => this.#measure());
    this.#timeline.addEventListener("seek", (event) => this.#jump(event.detail));
    this.#text.addEventListener("jump", (event) => this.#jump(event.detail.start));
    this.#finding.addEventListener("hits", () => (this.#timeline.hits = this.#finding.starts));
    this.#transcript.addEventListener("change", (event) => this.#changed(event.detail));
  }

  #actions() {
    return {
      " ": () => this.#player.toggle(),
      k: () => this.#player.toggle(),
      ArrowLeft: () => this.#player.skip(-STEP_S),
      j: () => this.#player.skip(-STEP_S),
      ArrowRight: () => this.#player.skip(STEP_S),
      l: () => this.#player.skip(STEP_S),
      "<": () => this.#player.shift(-1),
      ">": () => this.#player.shift(1),
      "/": () => this.#finding.field.select(),
      u: () => this.#goToUncertain(1),
      "Shift+u": () => this.#goToUncertain(-1),
      "Ctrl+z": () => this.#undoOne(),
      "Ctrl+y": () => this.#reveal(this.#transcript.redo()),
      "Ctrl+Shift+z": () => this.#reveal(this.#transcript.redo()),
      "?": () => (this.#help.open = !this.#help.open),
    };
  }

  #showTime() {
    const { time, playing } = this.#player;
    const segment = this.#transcript.pieces[lastAtOrBefore(this.#transcript.starts, time)]?.segment;
    this.#text.showTime(time, playing);
    this.#timeline.showTime(time, time <= segment?.end ? segment : null, playing);
  }

  #jump(seconds) {
    this.#player.seek(seconds);
    this.#text.following.resume();
  }

  #measure() {
    const { duration } = this.#player;
    if (!duration) return;
    this.#timeline.duration = duration;
    this.#showTime();
    if (this.#seen && !this.#drawn) this.#drawWaveform(duration);
  }

  // A page may hold many recordings: one is decoded when it is looked at.
  #see() {
    const observer = new IntersectionObserver((seen) => {
      if (!seen.some(({ isIntersecting }) => isIntersecting)) return; // a busy page is told several at once
      observer.disconnect();
      this.#seen = true;
      this.#measure();
    });
    observer.observe(this.#timeline.element);
    this.#gone.signal.addEventListener("abort", () => observer.disconnect());
  }

  async #drawWaveform(duration) {
    this.#drawn = true;
    const { signal } = this.#gone;
    const peaks = await peaksOf(this.#media, duration, signal).catch(() => null); // then speech alone is drawn
    if (peaks && !signal.aborted) this.#timeline.peaks = peaks;
  }

  #changed(piece) {
    this.#text.redraw(piece);
    this.#finding.refresh();
    this.#undo.disabled = !this.#transcript.canUndo;
    this.dispatchEvent(new Event("change"));
  }

  #undoOne() {
    this.#reveal(this.#transcript.undo());
  }

  #reveal(piece) {
    if (piece?.text) this.#text.goTo(piece);
  }

  #goToUncertain(step) {
    const from = this.#text.cursor;
    this.#reveal(from && this.#text.neighbour(from, step, (piece) => piece.uncertain));
  }
}
