// The recording as a strip: its waveform, where somebody speaks, the segments, and where we are in it. A slider to
// screen readers and keyboards. Dispatches `seek` (seconds).
//
// The browser scrolls: a track as wide as the recording, on which a canvas as wide as the viewport stays put and is
// drawn anew. The playhead is an element of its own, so that playing draws nothing.

import { button, make } from "../dom.js";
import { clamp } from "./ordered.js";
import { pyramid } from "./peaks.js";
import { Scale, grow } from "./scale.js";
import { INKS, draw, inksOf } from "./strip.js";
import { clock, spoken } from "../times.js";

const JOINED_S = 0.5; // a shorter pause is part of the speech
const SYLLABLE = 4; // the level of peaks 160 ms long: a click is louder than any speech, and doesn't count
const STEP_S = 5;
const PAGE_S = 30;

export class Timeline extends EventTarget {
  #canvas;
  #playhead;
  #pointed;
  #window;
  #track;
  #scroller;
  #zooms;
  #observer = new ResizeObserver(() => this.#layOut());
  #scrubbing = false;
  #scale = new Scale();
  #what = { speech: [], segments: [], hits: [], levels: null, gain: 1, current: null, done_s: Infinity };
  #time = 0;
  #drawing = 0; // the frame that is asked for
  #gone = new AbortController();

  constructor() {
    super();
    this.#canvas = make("canvas", {
      class: "reading-canvas", tabindex: "0", role: "slider", "aria-label": "Position", "aria-valuemin": "0",
    });
    this.#playhead = make("div", { class: "reading-playhead" });
    this.#pointed = make("output", { class: "reading-pointed", hidden: true, "aria-hidden": "true" });
    this.#window = make("div", { class: "reading-window" }, this.#canvas, this.#playhead, this.#pointed);
    this.#track = make("div", { class: "reading-track" }, this.#window);
    this.#scroller = make("div", { class: "reading-scroll" }, this.#track);
    this.#zooms = make("div", { class: "reading-zoom", role: "group", "aria-label": "Zoom" },
      button("−", "Zoom out", () => this.#zoom(-1)), button("+", "Zoom in", () => this.#zoom(1)));
    this.element = make("div", { class: "reading-timeline" }, this.#scroller, this.#zooms);
    this.#listen();
  }

  set duration(seconds) {
    this.#scale.duration = seconds;
    this.#scale.zoom = clamp(this.#scale.zoom, 1, this.#scale.most);
    this.#canvas.setAttribute("aria-valuemax", seconds.toFixed(1));
    this.#layOut();
  }

  set peaks(peaks) {
    const levels = pyramid(peaks);
    const loudest = (levels[SYLLABLE] ?? peaks).reduce((most, each) => Math.max(most, each), 1);
    this.#change({ levels, gain: 1 / loudest });
  }

  set hits(seconds) {
    this.#change({ hits: seconds });
  }

  /** How far the text has come; what lies behind is veiled. Infinity: all of it. */
  set done(done_s) {
    this.#change({ done_s });
  }

  add(segment) {
    this.#what.segments.push(segment);
    for (const { start, end } of segment.pieces) grow(this.#what.speech, start, end, JOINED_S);
    this.#ask();
  }

  /** Where we are, and in which segment; `follow` keeps that in view. */
  showTime(seconds, segment, follow) {
    this.#time = seconds;
    const rounded = seconds.toFixed(1);
    if (this.#canvas.getAttribute("aria-valuenow") !== rounded) {
      this.#canvas.setAttribute("aria-valuenow", rounded);
      this.#canvas.setAttribute("aria-valuetext", `${spoken(seconds)} of ${spoken(this.#scale.duration)}`);
    }
    if (segment !== this.#what.current) this.#change({ current: segment });
    if (follow && !this.#scrubbing) this.#keepInView();
    this.#placePlayhead();
  }

  destroy() {
    this.#gone.abort();
    this.#observer.disconnect();
    cancelAnimationFrame(this.#drawing);
  }

  #listen() {
    const { signal } = this.#gone;
    const on = (target, type, act, options) => target.addEventListener(type, act, { signal, ...options });
    this.#observer.observe(this.#scroller);
    on(this.#scroller, "scroll", () => this.#scrolled());
    on(this.#scroller, "wheel", (event) => this.#wheel(event), { passive: false });
    on(this.#canvas, "pointerdown", (event) => this.#press(event));
    on(this.#canvas, "pointermove", (event) => this.#point(event));
    on(this.#canvas, "pointerleave", () => (this.#pointed.hidden = true));
    for (const type of ["pointerup", "pointercancel"]) on(this.#canvas, type, () => (this.#scrubbing = false));
    on(this.#canvas, "click", (event) => this.#seek(this.#secondAt(event)));
    on(this.#canvas, "keydown", (event) => this.#key(event));
    on(matchMedia("(prefers-color-scheme: dark)"), "change", () => this.#change({ inks: null }));
  }

  #wheel(event) {
    if (!event.ctrlKey) return; // the browser scrolls
    event.preventDefault();
    this.#zoom(-Math.sign(event.deltaY), event.clientX - this.#left);
  }

  // A finger scrolls and taps; a mouse also drags.
  #press(event) {
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#scrubbing = true;
    this.#seek(this.#secondAt(event));
  }

  #point(event) {
    if (event.pointerType !== "mouse") return;
    const second = this.#secondAt(event);
    this.#pointed.hidden = false;
    this.#pointed.value = clock(second);
    const most = this.#scale.width - this.#pointed.offsetWidth;
    this.#pointed.style.transform = `translateX(${clamp(event.clientX - this.#left + 8, 0, most)}px)`;
    if (this.#scrubbing) this.#seek(second);
  }

  #key(event) {
    const { duration } = this.#scale;
    const to = {
      ArrowLeft: this.#time - STEP_S, ArrowDown: this.#time - STEP_S, ArrowRight: this.#time + STEP_S,
      ArrowUp: this.#time + STEP_S, PageDown: this.#time - PAGE_S, PageUp: this.#time + PAGE_S, Home: 0, End: duration,
    }[event.key];
    if (to !== undefined && !event.ctrlKey && !event.altKey) this.#seek(to);
    else if (event.key === "+" || event.key === "-") this.#zoom(event.key === "+" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  #seek(second) {
    const detail = clamp(second, 0, this.#scale.duration);
    this.dispatchEvent(new CustomEvent("seek", { detail }));
  }

  get #left() {
    return this.#scroller.getBoundingClientRect().left;
  }

  #secondAt(event) {
    return (this.#scroller.scrollLeft + event.clientX - this.#left) / this.#scale.perSecond;
  }

  // Around the playhead, if that is in view.
  #zoom(steps, x = this.#playheadX) {
    const inView = x >= 0 && x <= this.#scale.width;
    const scrolled = this.#scale.zoomed(steps, inView ? x : this.#scale.width / 2, this.#scroller.scrollLeft);
    this.#layOut();
    this.#scroller.scrollLeft = scrolled;
  }

  get #playheadX() {
    return this.#time * this.#scale.perSecond - this.#scroller.scrollLeft;
  }

  #placePlayhead() {
    this.#playhead.style.transform = `translateX(${this.#playheadX}px)`;
  }

  #keepInView() {
    const x = this.#playheadX;
    if (x < 0 || x > 0.95 * this.#scale.width) this.#scroller.scrollLeft += x - 0.1 * this.#scale.width;
  }

  #layOut() {
    this.#scale.width = Math.max(1, this.#scroller.clientWidth);
    this.#track.style.width = `${Math.max(this.#scale.width, Math.round(this.#scale.length))}px`;
    this.#window.style.width = `${this.#scale.width}px`;
    const [out, closer] = this.#zooms.children;
    out.disabled = this.#scale.zoom <= 1;
    closer.disabled = this.#scale.zoom >= this.#scale.most;
    this.#scrolled();
  }

  #scrolled() {
    this.#placePlayhead();
    this.#ask();
  }

  #change(what) {
    Object.assign(this.#what, what);
    this.#ask();
  }

  #ask() {
    if (!this.#drawing) this.#drawing = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = 0;
    const { width, perSecond } = this.#scale;
    const height = this.#canvas.clientHeight;
    const context = this.#canvas.getContext("2d");
    const ratio = devicePixelRatio;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.#canvas.width !== wide) this.#canvas.width = wide; // which also clears it
    if (this.#canvas.height !== high) this.#canvas.height = high;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = `11px ${getComputedStyle(this.#canvas).fontFamily}`;
    this.#what.inks ??= inksOf(this.#window, INKS);
    draw(context, { ...this.#what, width, height, perSecond, from_s: this.#scroller.scrollLeft / perSecond });
  }
}
