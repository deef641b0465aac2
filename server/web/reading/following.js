// Scrolling along with what is spoken, until the user scrolls: then only when asked again.

import { button, calm } from "../dom.js";

const SCROLLING_KEYS = new Set(["PageUp", "PageDown"]);

export class Following {
  #scroller;
  #on = true;
  #last = null; // finds what was spoken last, whose elements come and go

  constructor(scroller) {
    this.#scroller = scroller;
    this.element = button("Follow", "Scroll along with the audio", () => this.resume());
    this.element.classList.add("reading-follow");
    this.element.hidden = true;
    for (const type of ["wheel", "touchmove"]) {
      scroller.addEventListener(type, () => this.pause(), { passive: true });
    }
    scroller.addEventListener("keydown", (event) => SCROLLING_KEYS.has(event.key) && this.pause());
    // On the scroller itself, beside its content, is its scrollbar.
    scroller.addEventListener("pointerdown", (event) => event.target === scroller && this.pause());
  }

  /** Scrolls along again, at once. */
  resume() {
    this.#on = true;
    this.element.hidden = true;
    if (this.#last) this.#reveal(this.#last());
  }

  /** What `find` finds is spoken now; if `scrolls`, it is brought to where one reads. */
  speak(find, scrolls) {
    this.#last = find;
    if (scrolls && this.#on) this.#reveal(find());
  }

  #reveal(element) {
    const view = this.#scroller.getBoundingClientRect();
    const place = element.getBoundingClientRect();
    if (place.top >= view.top + 0.1 * view.height && place.bottom <= view.bottom - 0.2 * view.height) return;
    const distance = place.top - view.top - 0.3 * view.height;
    const smooth = Math.abs(distance) < 2 * view.height && !calm();
    this.#scroller.scrollBy({ top: distance, behavior: smooth ? "smooth" : "instant" });
  }

  /** Shows `element` in the middle, whatever is spoken. */
  centre(element) {
    const view = this.#scroller.getBoundingClientRect();
    const place = element.getBoundingClientRect();
    if (place.top < view.top || place.bottom > view.bottom) {
      this.#scroller.scrollBy({ top: place.top - view.top - view.height / 2, behavior: "instant" });
    }
  }

  /** The user looks elsewhere. */
  pause() {
    if (this.#scroller.scrollHeight <= this.#scroller.clientHeight) return;
    this.#on = false;
    this.element.hidden = !this.#last;
  }
}
