// Search in the text: a field, how many hits, from one to the next. Hits are painted with the CSS Custom Highlight
// API, which changes no element; a browser without it still counts them and goes to them.

import { button, make } from "../dom.js";
import { matchesIn, pieceAt } from "./matches.js";

export class Finding extends EventTarget {
  #transcript;
  #text;
  #count;
  #steps;
  #hits = [];
  #at = -1;
  #painted = [];

  constructor(transcript, text) {
    super();
    this.#transcript = transcript;
    this.#text = text;
    this.field = make("input", {
      type: "search", placeholder: "Search", "aria-label": "Search in the text", autocomplete: "off",
      spellcheck: "false",
    });
    this.#count = make("output", { class: "reading-count", "aria-label": "Matches" });
    this.#steps = make("span", { class: "reading-steps", hidden: true }, this.#count,
      button("↑", "Previous match", () => this.#step(-1)), button("↓", "Next match", () => this.#step(1)));
    this.element = make("div", { class: "reading-search", role: "search" }, this.field, this.#steps);
    this.field.addEventListener("input", () => this.#search());
    this.field.addEventListener("keydown", (event) => this.#key(event));
    text.addEventListener("turn", () => this.#paint());
  }

  /** When the words are spoken in which hits begin. */
  get starts() {
    return this.#hits.map((hit) => pieceAt(hit.segment, hit.from).start);
  }

  /** Looks again: the text is another, or longer. */
  refresh() {
    if (!this.field.value.trim()) return;
    this.#hits = matchesIn(this.#transcript.segments, this.field.value);
    this.#at = Math.min(this.#at, this.#hits.length - 1);
    this.#show();
  }

  destroy() {
    this.#unpaint();
  }

  #search() {
    this.#hits = matchesIn(this.#transcript.segments, this.field.value);
    const from = this.#text.cursor?.segment.index ?? 0;
    this.#at = this.#hits.findIndex((hit) => hit.segment.index >= from);
    if (this.#at < 0) this.#at = Math.min(0, this.#hits.length - 1);
    this.#reveal();
    this.#show();
  }

  #step(step) {
    if (!this.#hits.length) return;
    this.#at = (this.#at + step + this.#hits.length) % this.#hits.length;
    this.#reveal();
    this.#show();
  }

  #reveal() {
    const hit = this.#hits[this.#at];
    if (!hit) return;
    this.#text.following.pause();
    this.#text.goTo(pieceAt(hit.segment, hit.from), { focus: false });
  }

  #key(event) {
    if (event.key === "Enter") this.#step(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape" && this.field.value) {
      this.field.value = "";
      this.#search();
    } else if (event.key === "Escape" && this.#text.cursor) this.#text.goTo(this.#text.cursor);
    else return;
    event.preventDefault();
  }

  #show() {
    const count = this.#hits.length;
    this.#steps.hidden = !this.field.value.trim();
    this.#count.textContent = count ? `${this.#at + 1} of ${count}` : "None";
    this.#paint();
    this.dispatchEvent(new Event("hits"));
  }

  // Hits out of sight have no words to stand on; they are painted when their block turns up.
  #paint() {
    this.#unpaint();
    if (!globalThis.CSS?.highlights) return;
    const open = new Set(this.#text.openBlocks);
    this.#hits.forEach((hit, at) => {
      const block = this.#text.blockOf(hit.segment);
      if (!open.has(block)) return;
      const name = at === this.#at ? "reading-hit" : "reading-hits";
      const range = block.rangeOf(hit.from, hit.to);
      if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
      CSS.highlights.get(name).add(range);
      this.#painted.push([name, range]);
    });
  }

  #unpaint() {
    for (const [name, range] of this.#painted) CSS.highlights.get(name).delete(range);
    this.#painted = [];
  }
}
