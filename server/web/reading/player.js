// The recording, played: a native <audio> behind controls of our own. Dispatches `time` (with every frame while it
// plays), `duration` and `broken`, where the browser can't play the file.

import { button, make } from "../dom.js";
import { clamp } from "./ordered.js";
import { clock } from "../times.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
export const STEP_S = 5;
const FAR_S = 1e7; // beyond the end of any recording

export class Player extends EventTarget {
  #address;
  #audio;
  #play;
  #clock;
  #speed;
  #note;
  #told = 0; // the server's word for the duration
  #shown = "";
  #gone = new AbortController();

  constructor(media) {
    super();
    this.#address = URL.createObjectURL(media);
    this.#audio = make("audio", { src: this.#address, preload: "metadata" });
    this.#play = button("", "Play", () => this.toggle());
    this.#play.classList.add("reading-play", "primary");
    this.#clock = make("span", { class: "reading-clock" });
    this.#speed = make("select", { "aria-label": "Speed" }, ...SPEEDS.map((each) => new Option(`${each}×`, each)));
    this.#speed.value = 1;
    this.#speed.addEventListener("change", () => (this.#audio.playbackRate = Number(this.#speed.value)));
    this.#note = make("p", { class: "reading-note", role: "status", hidden: true });
    this.element = make("div", { class: "reading-player", role: "group", "aria-label": "Player" },
      this.#audio,
      this.#play,
      button("−5", "Back 5 seconds", () => this.skip(-STEP_S)),
      button("+5", "Forward 5 seconds", () => this.skip(STEP_S)),
      this.#clock, this.#speed, this.#note);
    this.#listen();
    this.#show();
  }

  get time() {
    return this.#audio.currentTime;
  }

  get playing() {
    return !this.#audio.paused;
  }

  /** Whether anybody has played or sought. */
  get begun() {
    return this.playing || this.time > 0;
  }

  get duration() {
    return Number.isFinite(this.#audio.duration) ? this.#audio.duration : this.#told;
  }

  set told(seconds) {
    this.#told = seconds;
    this.#durationChanged();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.#audio.play().catch(() => {}); // interrupted by a pause, or broken: `error` tells that
  }

  pause() {
    this.#audio.pause();
  }

  seek(seconds) {
    this.#audio.currentTime = clamp(seconds, 0, this.duration || 0);
    this.#tell();
  }

  skip(seconds) {
    this.seek(this.time + seconds);
  }

  /** The next speed, faster (1) or slower (-1). */
  shift(direction) {
    this.#speed.selectedIndex = clamp(this.#speed.selectedIndex + direction, 0, SPEEDS.length - 1);
    this.#audio.playbackRate = Number(this.#speed.value);
  }

  destroy() {
    this.#gone.abort();
    this.#audio.removeAttribute("src");
    this.#audio.load();
    URL.revokeObjectURL(this.#address);
  }

  #listen() {
    const on = (type, act, target = this.#audio, capture = false) =>
      target.addEventListener(type, act, { signal: this.#gone.signal, capture });
    on("play", () => this.#frame());
    for (const type of ["play", "pause", "ended"]) on(type, () => this.#show());
    for (const type of ["seeked", "timeupdate"]) on(type, () => this.#tell());
    on("loadedmetadata", () => this.#findEnd());
    on("durationchange", () => this.#durationChanged());
    on("error", () => this.#break());
    on("play", (event) => event.target !== this.#audio && this.#audio.pause(), document, true); // one at a time
  }

  // Recorders write no duration: the browser knows it once it has been at the end.
  #findEnd() {
    if (this.#audio.duration !== Infinity) return;
    this.#audio.addEventListener("durationchange", () => (this.#audio.currentTime = 0), { once: true });
    this.#audio.currentTime = FAR_S;
  }

  #frame() {
    if (!this.playing || this.#gone.signal.aborted) return;
    this.#tell();
    requestAnimationFrame(() => this.#frame());
  }

  #tell() {
    this.#show();
    this.dispatchEvent(new Event("time"));
  }

  #durationChanged() {
    this.#show();
    this.dispatchEvent(new Event("duration"));
  }

  #show() {
    const text = `${clock(this.time)} / ${clock(this.duration)}`;
    if (text !== this.#shown) this.#clock.textContent = this.#shown = text;
    const label = this.playing ? "Pause" : "Play";
    if (this.#play.title === label && this.#play.dataset.shows === label) return;
    this.#play.dataset.shows = this.#play.title = label;
    this.#play.setAttribute("aria-label", label);
  }

  #break() {
    for (const control of this.element.querySelectorAll("button, select")) control.disabled = true;
    this.#note.textContent = "This browser can’t play the file. The text is complete.";
    this.#note.hidden = false;
    this.dispatchEvent(new Event("broken"));
  }
}
