// The transcript on the page: blocks of words, which of them is spoken, and the cursor, the text's one tab stop.
// Dispatches `jump` (a piece to hear), `edit` (a piece to change) and `turn` when other blocks have words.

import { Block } from "./block.js";
import { make } from "../dom.js";
import { Following } from "./following.js";
import { lastAtOrBefore } from "./ordered.js";

const LEAF = 20; // segments that get and lose their words together: browsers take time for each that they watch
const LINGER_S = 0.15; // a word stays lit a little: many end where they begin

export class TextView extends EventTarget {
  #transcript;
  #observer;
  #blocks = [];
  #now = null;
  #cursor = null;

  constructor(transcript) {
    super();
    this.#transcript = transcript;
    this.scroller = make("div", { class: "reading-text", role: "group", "aria-label": "Transcript" });
    this.following = new Following(this.scroller);
    this.element = make("div", { class: "reading-frame" }, this.scroller, this.following.element);
    this.#observer = new IntersectionObserver((seen) => this.#turn(seen), {
      root: this.scroller,
      rootMargin: "50% 0px", // somewhat before they come into view
    });
    this.scroller.addEventListener("click", (event) => this.#click(event));
    this.scroller.addEventListener("dblclick", (event) => this.#send("edit", this.#pieceAt(event.target)));
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    this.scroller.addEventListener("focusin", (event) => this.#stand(this.#pieceAt(event.target)));
  }

  get cursor() {
    return this.#cursor;
  }

  get openBlocks() {
    return this.#blocks.filter((block) => block.isOpen);
  }

  add(segment) {
    const block = new Block(segment);
    this.#blocks.push(block);
    if (segment.index % LEAF === 0) this.#turnLeaf();
    this.scroller.lastChild.append(block.element);
    if (!this.#cursor) this.#stand(segment.pieces.find((piece) => piece.text));
  }

  redraw(piece) {
    this.#blocks[piece.segment.index].redraw(piece);
    if (!this.#cursor?.text) this.#stand(this.neighbour(piece, 1) ?? this.neighbour(piece, -1));
    this.#mark();
  }

  /** Lights the word, or the segment, that is spoken at `seconds`; scrolls along if told to. */
  showTime(seconds, follow) {
    const piece = this.#transcript.pieces[lastAtOrBefore(this.#transcript.starts, seconds)];
    const now = piece && piece.text && seconds <= piece.end + LINGER_S ? piece : null;
    if (now === this.#now) return;
    this.#mark(false);
    this.#now = now;
    this.#mark();
    if (now) this.following.speak(() => this.#elementOf(now), follow);
  }

  /** Shows the newest words, unless the reader is in the text or has scrolled away. */
  showEnd() {
    const block = this.#blocks.at(-1);
    const isRead = this.scroller.contains(document.activeElement);
    if (block && !isRead) this.following.speak(() => block.element, true);
  }

  /** The word's element; its block gets words if it has none. */
  spanOf(piece) {
    const block = this.#blocks[piece.segment.index];
    if (!block.isOpen) {
      block.open();
      this.#mark();
    }
    return block.spanOf(piece);
  }

  blockOf(segment) {
    return this.#blocks[segment.index];
  }

  /** Puts the cursor on a word and brings it into view; without `focus` the page itself doesn't scroll. */
  goTo(piece, { focus = true, ring = true } = {}) {
    this.#stand(piece);
    const span = this.spanOf(piece);
    if (!span) return; // the last word was deleted
    if (!focus) return this.following.centre(span);
    span.scrollIntoView({ block: "nearest" });
    span.focus({ preventScroll: true, focusVisible: ring });
  }

  /** The next (1) or previous (-1) word that is there, and that `wanted` holds for. */
  neighbour(piece, step, wanted = () => true) {
    const { pieces } = this.#transcript;
    for (let at = piece.index + step; at >= 0 && at < pieces.length; at += step) {
      if (pieces[at].text && wanted(pieces[at])) return pieces[at];
    }
    return null;
  }

  destroy() {
    this.#observer.disconnect();
  }

  #elementOf(piece) {
    const block = this.#blocks[piece.segment.index];
    return block.spanOf(piece) ?? block.element;
  }

  #pieceAt(target) {
    const word = target.closest?.("[data-piece]");
    if (word) return this.#transcript.pieces[word.dataset.piece];
    const time = target.closest?.(".reading-time");
    return time && this.#transcript.segments[time.parentElement.dataset.segment].pieces.find((piece) => piece.text);
  }

  #send(type, piece) {
    if (piece) this.dispatchEvent(new CustomEvent(type, { detail: piece }));
  }

  #click(event) {
    if (!getSelection().isCollapsed || event.target.isContentEditable) return;
    const piece = this.#pieceAt(event.target);
    if (!piece) return;
    this.goTo(piece, { ring: false });
    this.#send("jump", piece);
  }

  #key(event) {
    if (event.target.isContentEditable || event.altKey || event.metaKey || !this.#cursor) return;
    if (event.key === "Enter") this.#send("jump", this.#cursor);
    else if (event.key === "F2") this.#send("edit", this.#cursor);
    else {
      const piece = this.#towards(event);
      if (!piece) return;
      this.goTo(piece);
    }
    event.preventDefault();
  }

  #towards({ key, ctrlKey }) {
    const cursor = this.#cursor;
    const { pieces } = cursor.segment;
    const rightToLeft = this.#blocks[cursor.segment.index].isRightToLeft ? -1 : 1;
    const first = (list) => list.find((piece) => piece.text);
    const last = (list) => list.findLast((piece) => piece.text);
    if (key === "ArrowRight") return this.neighbour(cursor, rightToLeft);
    if (key === "ArrowLeft") return this.neighbour(cursor, -rightToLeft);
    if (key === "ArrowDown") return this.neighbour(pieces.at(-1), 1);
    if (key === "ArrowUp") {
      const before = this.neighbour(pieces[0], -1);
      return before && first(before.segment.pieces);
    }
    if (key === "Home") return first(ctrlKey ? this.#transcript.pieces : pieces);
    if (key === "End") return last(ctrlKey ? this.#transcript.pieces : pieces);
    return null;
  }

  #stand(piece) {
    if (!piece || piece === this.#cursor) return;
    const left = this.#cursor;
    this.#cursor = piece;
    if (left) {
      this.#blocks[left.segment.index].spanOf(left)?.removeAttribute("tabindex");
      this.#settle(this.#blocks[left.segment.index]);
    }
    this.spanOf(piece);
    this.#mark();
  }

  #turnLeaf() {
    const leaf = make("div", { class: "reading-leaf", "data-first": this.#blocks.length - 1 });
    this.scroller.append(leaf);
    this.#observer.observe(leaf);
  }

  #turn(seen) {
    for (const { target, isIntersecting } of seen) {
      const first = Number(target.dataset.first);
      for (const block of this.#blocks.slice(first, first + LEAF)) {
        block.near = isIntersecting;
        this.#settle(block);
      }
    }
    this.#mark();
    this.dispatchEvent(new Event("turn"));
  }

  // The cursor's block keeps its words out of sight too, or the text had no tab stop.
  #settle(block) {
    const wanted = block.near || this.#cursor?.segment === block.segment;
    if (wanted && !block.isOpen) block.open();
    else if (!wanted && block.isOpen) block.close();
  }

  #mark(lit = true) {
    if (this.#cursor) this.#blocks[this.#cursor.segment.index].spanOf(this.#cursor)?.setAttribute("tabindex", "0");
    if (!this.#now) return;
    const block = this.#blocks[this.#now.segment.index];
    block.spanOf(this.#now)?.classList.toggle("is-now", lit);
    if (lit) block.element.setAttribute("aria-current", "true");
    else block.element.removeAttribute("aria-current");
  }
}
