// Cues of chosen size, made of words with times, as the API shapes them: server/formats/subtitles.py in JavaScript, which
// says what each number is for. A unit, `{text, start, end}` in milliseconds, is what is never torn.

import { cut } from "./pieces.js";
import { SPACE, cueText, milliseconds } from "./text.js";

const MIN_CUE_MS = 1;
const LONG_PAUSE_MS = 1000;
const SENTENCE = 1.0;
const CLAUSE = 0.4;
const SENTENCE_ENDS = new Set(".!?…。！？｡।؟۔");
const CLAUSE_ENDS = new Set(",;:،؛、，；：､–—");
const CLOSING = /["'”’»›)\]}」』）】》〉]+$/;
const [TORN, MERGED, HURRIED] = [1.5, 0.7, 2.0];
const [LINE, TORN_LINE] = [10.0, 0.3];

const PIECE = new RegExp(`[${SPACE}]*[^${SPACE}]+`, "g");
const STARTS_WITH_SPACE = new RegExp(`^[${SPACE}]`);
const NOT_FIRST = /^[ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ々ๆะาำๅ%％‰°\p{M}\p{Pe}\p{Pf}\p{Po}\p{Pd}]/u;
const NOT_LAST = /[เแโใไ¿¡$￥\p{Ps}\p{Pi}]$/u;
const NO_WIDTH = /[\p{Mn}\p{Me}\p{Cf}]/u;
const WIDE = // Unicode's East Asian width W and F
  /[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6b\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{1b2fb}\u{1f200}-\u{1f265}\u{20000}-\u{3fffd}\p{Emoji_Presentation}]/u;

/** The cues, `{start, end, lines}`, of a `verbose_json`; `shaping`: `width`, `count`, `minMs`, `maxMs`. */
export function* shape({ segments, duration }, shaping) {
  const units = [...glued(unitsOf(segments))];
  const cues = runs(units).flatMap((run) => cutRun(run, shaping));
  let clock = 0;
  for (const [at, cue] of cues.entries()) {
    const limit = cues[at + 1]?.[0].start ?? Math.max(milliseconds(duration), cue.at(-1).end);
    const start = Math.max(cue[0].start, clock);
    const end = Math.min(Math.max(cue.at(-1).end, start + shaping.minMs), limit);
    clock = Math.max(end, start + MIN_CUE_MS);
    yield { start, end: clock, lines: linesOf(cue, shaping.width) };
  }
}

function* unitsOf(segments) {
  let clock = 0;
  for (const segment of segments) {
    for (const word of wordsOf(segment)) {
      const shown = cueText(word.text);
      if (!shown) continue;
      const start = Math.max(milliseconds(word.start), clock);
      const text = STARTS_WITH_SPACE.test(word.text) ? ` ${shown}` : shown;
      yield { text, start, end: Math.max(milliseconds(word.end), start) };
      clock = start;
    }
  }
}

// The API's words are bare: the segment's text has the punctuation and the spaces. Without words it is spread evenly.
function wordsOf({ text, words, start, end }) {
  const found = words?.length ? cut(text, words.map(({ word }) => word)) : null;
  if (found) return found.pieces.map((piece, at) => ({ ...words[at], text: piece.lead + piece.text }));
  const pieces = text.match(PIECE) ?? [];
  const reached = sums(pieces.map((piece) => [...piece].length));
  const step = (end - start) / Math.max(reached.at(-1), 1);
  const time = (at) => start + reached[at] * step;
  return pieces.map((piece, at) => ({ text: piece, start: time(at), end: time(at + 1) }));
}

function* glued(units) {
  let held = null;
  for (const unit of units) {
    if (held && !mayPart(held.text, unit.text)) {
      held = { text: held.text + unit.text, start: held.start, end: Math.max(held.end, unit.end) };
      continue;
    }
    if (held) yield held;
    held = unit;
  }
  if (held) yield held;
}

// Whether a line may end with `before` where the next begins with `after`.
function mayPart(before, after) {
  return STARTS_WITH_SPACE.test(after) || !(NOT_FIRST.test(after) || NOT_LAST.test(before));
}

function runs(units) {
  const found = [];
  for (const unit of units) {
    const before = found.at(-1)?.at(-1);
    if (before && unit.start - before.end < LONG_PAUSE_MS) found.at(-1).push(unit);
    else found.push([unit]);
  }
  return found;
}

function cutRun(units, { width, count, minMs, maxMs }) {
  const ruler = new Ruler(units);
  const worth = worths(units);
  const worthBefore = sums(worth);
  const room = width * count;
  const cost = (start, end) => {
    const time = units[end - 1].end - units[start].start;
    const fits = end <= ruler.reach(start, width, count);
    if (end - start > 1 && !(fits && time <= maxMs)) return null;
    const fill = Math.min(ruler.width(start, end) / room, 1);
    const torn = TORN * (1 - worth[end - 1]);
    const merged = MERGED * (worthBefore[end - 1] - worthBefore[start]);
    const shown = end < units.length ? units[end].start - units[start].start : minMs;
    const hurried = minMs ? HURRIED * Math.max(0, 1 - shown / minMs) : 0;
    return 1 + fill * fill + torn + merged + hurried;
  };
  return cheapest(units.length, cost).map(([start, end]) => units.slice(start, end));
}

function linesOf(units, limit) {
  const ruler = new Ruler(units);
  const worth = worths(units);
  const cost = (start, end) => {
    const width = ruler.width(start, end);
    if (end - start > 1 && width > limit) return null;
    const fill = Math.min(width / limit, 1);
    return LINE + fill * fill + TORN_LINE * (1 - worth[end - 1]);
  };
  const texts = units.map((unit) => unit.text);
  return cheapest(units.length, cost).map(([start, end]) => cueText(texts.slice(start, end).join("")));
}

// What the boundary behind each unit is worth as a break.
function worths(units) {
  return units.map((before, at) => {
    const after = units[at + 1];
    if (!after) return SENTENCE;
    const last = [...(before.text.replace(CLOSING, "") || before.text)].at(-1);
    const mark = SENTENCE_ENDS.has(last) ? SENTENCE : CLAUSE_ENDS.has(last) ? CLAUSE : 0;
    return Math.min(mark + Math.max(after.start - before.end, 0) / LONG_PAUSE_MS, SENTENCE);
  });
}

class Ruler {
  #spaces;
  #ends;
  #reach = new Map();

  constructor(units) {
    this.#spaces = units.map(({ text }) => Number(STARTS_WITH_SPACE.test(text)));
    this.#ends = sums(units.map(({ text }) => columns(text)));
  }

  width(start, end) {
    return this.#ends[end] - this.#ends[start] - this.#spaces[start];
  }

  /** One past the last unit that fits into so many lines from `start` on; at least one is in each. */
  reach(start, limit, lines) {
    if (!this.#reach.has(start)) {
      let end = start;
      for (let line = 0; line < lines && end < this.#spaces.length; line++) {
        const wide = this.#ends[end] + this.#spaces[end] + limit;
        end++;
        while (end < this.#spaces.length && this.#ends[end + 1] <= wide) end++;
      }
      this.#reach.set(start, end);
    }
    return this.#reach.get(start);
  }
}

function columns(text) {
  return [...text].reduce((sum, char) => sum + (NO_WIDTH.test(char) ? 0 : 1 + Number(WIDE.test(char))), 0);
}

function sums(values) {
  const found = [0];
  for (const value of values) found.push(found.at(-1) + value);
  return found;
}

/** Where to split `count` things so that the costs of the parts are least in sum; what a part can't be costs null. */
function cheapest(count, cost) {
  const best = [{ sum: 0, start: 0 }];
  for (let end = 1; end <= count; end++) {
    let least = { sum: Infinity };
    for (let start = end - 1; start >= 0; start--) {
      const price = cost(start, end);
      if (price === null) break;
      const sum = best[start].sum + price;
      if (sum <= least.sum) least = { sum, start };
    }
    best.push(least);
  }
  const parts = [];
  for (let end = count; end; end = best[end].start) parts.unshift([best[end].start, end]);
  return parts;
}
