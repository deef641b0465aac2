// Seconds to pixels and back, for a strip that is zoomed and scrolled. Pure.

import { clamp } from "./ordered.js";

const FINEST = 100; // pixels a second: what peaks are made for
const STEP = 1.5;

export class Scale {
  duration = 0;
  width = 1; // of the viewport, in pixels
  zoom = 1; // 1: all of it in the viewport

  get perSecond() {
    return this.duration ? (this.width / this.duration) * this.zoom : 1;
  }

  get length() {
    return this.duration * this.perSecond;
  }

  get most() {
    return Math.max(1, (FINEST * this.duration) / this.width);
  }

  /** Zooms by `steps`, and tells how far to scroll so that the second at viewport pixel `x` stays where it is. */
  zoomed(steps, x, scrolled) {
    const second = (scrolled + x) / this.perSecond;
    this.zoom = clamp(this.zoom * STEP ** steps, 1, this.most);
    return second * this.perSecond - x;
  }
}

/** Spans of speech, `[{start, end}]`, grown by one that comes behind them: it joins the last if it is near. */
export function grow(spans, start, end, near_s) {
  const last = spans.at(-1);
  if (last && start - last.end <= near_s) last.end = Math.max(last.end, end);
  else spans.push({ start, end });
}

/** Indices `[from, to)` of those of `spans` (in order) that touch the time between two seconds. */
export function touching(spans, from_s, to_s) {
  const after = (test) => {
    let low = 0;
    let high = spans.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (test(spans[middle])) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  return [after((span) => span.end > from_s), after((span) => span.start >= to_s)];
}
