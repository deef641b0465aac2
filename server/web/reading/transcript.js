// The text as it stands: segments in the order they came, their words with times, and what the user made of them.
// Knows nothing of a page. Dispatches `change` with the piece whose text is another now.

import { cut } from "../pieces.js";

/** What one clicks: a word with its punctuation, or a whole segment where words have no times. */
class Piece {
  constructor(index, segment, { lead, text }, { start, end, probability = 1 }) {
    Object.assign(this, { index, segment, lead, text, start, end, probability });
    this.heard = text;
  }

  get edited() {
    return this.text !== this.heard;
  }

  get uncertain() {
    return this.probability < UNCERTAIN && !this.edited;
  }

  toString() {
    return this.text || this.lead.trim() ? this.lead + this.text : "";
  }
}

const UNCERTAIN = 0.5; // of right words few score less, of wrong ones most

class Segment {
  constructor(source, index, first) {
    Object.assign(this, { source, index, start: source.start, end: source.end });
    const timed = source.words?.length && cut(source.text, source.words.map((each) => each.word));
    const { pieces, tail } = timed || { pieces: [whole(source.text)], tail: "" };
    this.words = timed ? source.words : null;
    this.tail = tail;
    this.pieces = pieces.map((each, at) => new Piece(first + at, this, each, timed ? source.words[at] : source));
    if (!timed) this.pieces[0].probability = 1; // a segment has no such number
  }

  get text() {
    return this.pieces.join("") + this.tail;
  }

  /** As the server would send it now. What it was heard from is no more (`tokens`), its times are. */
  toJSON() {
    const { type, ...source } = this.source;
    if (!this.pieces.some((piece) => piece.edited)) return source;
    if ("tokens" in source) source.tokens = [];
    if ("words" in source) source.words = this.words ? this.#editedWords() : [];
    return { ...source, text: this.text };
  }

  #editedWords() {
    const words = this.pieces.map((piece, at) =>
      piece.edited ? { ...this.words[at], word: piece.text, probability: 1 } : this.words[at],
    );
    return words.filter((each) => each.word);
  }
}

function whole(text) {
  const lead = /^\s*/.exec(text)[0];
  return { lead, text: text.slice(lead.length) };
}

export class Transcript extends EventTarget {
  segments = [];
  pieces = []; // of all segments
  starts = []; // of the pieces, ascending
  #done = []; // edits: {piece, before, after}
  #undone = [];

  add(source) {
    const segment = new Segment(source, this.segments.length, this.pieces.length);
    this.segments.push(segment);
    for (const piece of segment.pieces) {
      this.pieces.push(piece);
      this.starts.push(Math.max(piece.start, this.starts.at(-1) ?? 0));
    }
    return segment;
  }

  /** Gives a piece another text; an empty one deletes it. Whether anything changed. */
  edit(piece, text) {
    const edit = { piece, before: piece.text, after: text.replace(/\s+/g, " ").trim() };
    if (edit.after === edit.before) return false;
    this.#done.push(edit);
    this.#undone = [];
    this.#put(piece, edit.after);
    return true;
  }

  undo() {
    return this.#move(this.#done, this.#undone, "before");
  }

  redo() {
    return this.#move(this.#undone, this.#done, "after");
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** The segments as they stand, without those that were emptied. */
  toJSON() {
    return this.segments.map((each) => each.toJSON()).filter((each) => each.text.trim());
  }

  #move(from, to, side) {
    const edit = from.pop();
    if (!edit) return null;
    to.push(edit);
    this.#put(edit.piece, edit[side]);
    return edit.piece;
  }

  #put(piece, text) {
    piece.text = text;
    this.dispatchEvent(new CustomEvent("change", { detail: piece }));
  }
}
