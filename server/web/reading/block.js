// One segment on the page: its time and its text; near the viewport also a <span> per word.
//
// An hour has 9,000 words. Far from the viewport a segment is plain text: whole for screen readers and for the
// browser's own search, and a thousand elements instead of twenty thousand.

import { make } from "../dom.js";
import { clock } from "../times.js";

export class Block {
  #spans = null; // by piece, while open
  #paragraph = make("p", { dir: "auto" });
  near = false; // the viewport

  constructor(segment) {
    this.segment = segment;
    this.element = make("div", { class: "reading-segment", "data-segment": segment.index },
      make("span", { class: "reading-time" }, clock(segment.start)), this.#paragraph);
    this.refresh();
  }

  get isOpen() {
    return this.#spans !== null;
  }

  get isRightToLeft() {
    return getComputedStyle(this.#paragraph).direction === "rtl";
  }

  open() {
    this.#spans = new Map();
    this.refresh();
  }

  close() {
    this.#spans = null;
    this.refresh();
  }

  refresh() {
    const { pieces, tail, text } = this.segment;
    this.element.hidden = !text.trim();
    this.#spans?.clear();
    if (!this.#spans) this.#paragraph.textContent = text;
    else this.#paragraph.replaceChildren(...pieces.flatMap((piece) => this.#nodes(piece)), tail);
  }

  /** Shows what a piece is now. The elements of others stay: one of them may be about to be clicked. */
  redraw(piece) {
    const span = this.#spans?.get(piece);
    if (span && piece.text) span.replaceWith(this.#span(piece));
    else this.refresh();
  }

  spanOf(piece) {
    return this.#spans?.get(piece);
  }

  /** Where characters `from` to `to` of the text stand. */
  rangeOf(from, to) {
    const range = document.createRange();
    const walker = document.createTreeWalker(this.#paragraph, NodeFilter.SHOW_TEXT);
    let passed = 0;
    range.selectNodeContents(this.#paragraph);
    for (let node = walker.nextNode(); node && passed < to; node = walker.nextNode()) {
      if (from >= passed && from <= passed + node.length) range.setStart(node, from - passed);
      if (to <= passed + node.length) range.setEnd(node, to - passed);
      passed += node.length;
    }
    return range;
  }

  #nodes(piece) {
    return piece.text ? [piece.lead, this.#span(piece)] : [piece.toString()];
  }

  #span(piece) {
    const span = make("span", {
      class: "reading-word",
      "data-piece": piece.index,
      "data-uncertain": piece.uncertain,
      "data-edited": piece.edited,
      title: piece.uncertain ? `Uncertain: ${Math.round(piece.probability * 100)} %` : null,
    }, piece.text);
    this.#spans.set(piece, span);
    return span;
  }
}
