// What the timeline looks like: one drawing of what is in view, on a canvas.

import { loudness } from "./peaks.js";
import { touching } from "./scale.js";
import { clock, roundStep } from "../times.js";

const BAR = 2; // pixels, and one between bars
const LABELS = 16; // pixels below the waveform
const BETWEEN_LABELS = 72;
const LINE = 2; // a segment
const HIT = 7;

/** Colours by name, from the computed colour of elements with the class `reading-ink-<name>` in `host`. */
export function inksOf(host, names) {
  return Object.fromEntries(names.map((name) => {
    const swatch = document.createElement("i");
    swatch.className = `reading-ink-${name}`;
    host.append(swatch);
    const { color } = getComputedStyle(swatch);
    swatch.remove();
    return [name, color];
  }));
}

export const INKS = ["speech", "wave", "segment", "now", "label", "hit", "ahead"];

/** Draws the `width` by `height` pixels of the strip that begin at `from_s`. */
export function draw(context, { width, height, from_s, perSecond, inks, ...what }) {
  const to_s = from_s + width / perSecond;
  const x = (seconds) => (seconds - from_s) * perSecond;
  const floor = height - LABELS;
  const view = { context, width, floor, from_s, to_s, perSecond, x, inks };
  context.clearRect(0, 0, width, height);
  drawSpeech(view, what.speech, what.levels ? 1 : 0.5);
  if (what.levels) drawWave(view, what.levels, what.gain);
  drawSegments(view, what.segments, what.current);
  drawHits(view, what.hits);
  drawAhead(view, what.done_s);
  drawLabels(view, height);
}

function drawSpeech({ context, floor, from_s, to_s, x, inks }, speech, share) {
  const [first, end] = touching(speech, from_s, to_s);
  context.fillStyle = inks.speech;
  const height = floor * share - LINE;
  for (let i = first; i < end; i++) {
    const width = Math.max(1, x(speech[i].end) - x(speech[i].start));
    context.fillRect(x(speech[i].start), (floor - height) / 2, width, height);
  }
}

function drawWave({ context, width, floor, from_s, perSecond, inks }, levels, gain) {
  const pitch = BAR + 1;
  const step_s = pitch / perSecond;
  context.fillStyle = inks.wave;
  // Bars stand at whole multiples of their pitch in the recording, or they would flicker while it scrolls.
  for (let bar = Math.floor(from_s / step_s); bar * pitch - from_s * perSecond < width; bar++) {
    const peak = loudness(levels, bar * step_s, (bar + 1) * step_s) * gain;
    const half = Math.max(0.5, (Math.min(1, peak) * (floor - 2 * LINE)) / 2);
    context.fillRect(bar * pitch - from_s * perSecond, floor / 2 - half, BAR, 2 * half);
  }
}

function drawSegments({ context, floor, from_s, to_s, x, inks }, segments, current) {
  const [first, end] = touching(segments, from_s, to_s);
  for (let i = first; i < end; i++) {
    const now = segments[i] === current;
    const width = x(segments[i].end) - x(segments[i].start);
    context.fillStyle = now ? inks.now : inks.segment;
    context.fillRect(x(segments[i].start), floor - LINE, Math.max(1, width - 1), now ? LINE + 1 : LINE);
  }
}

function drawHits({ context, from_s, to_s, x, inks }, hits) {
  context.fillStyle = inks.hit;
  for (const second of hits) {
    if (second >= from_s && second <= to_s) context.fillRect(x(second) - 1, 0, 2, HIT);
  }
}

function drawAhead({ context, width, floor, x, inks }, done_s) {
  const start = Math.max(0, x(done_s));
  if (start >= width) return;
  context.fillStyle = inks.ahead;
  context.fillRect(start, 0, width - start, floor);
}

function drawLabels({ context, from_s, to_s, x, inks, perSecond }, height) {
  const step = roundStep(BETWEEN_LABELS / perSecond);
  context.fillStyle = inks.label;
  context.textBaseline = "bottom";
  for (let second = Math.floor(from_s / step) * step; second <= to_s; second += step) {
    const text = step < 1 ? `${clock(second + 1e-6)}.${Math.round((second % 1) * 10) % 10}` : clock(second + 1e-6);
    context.fillText(text, x(second) + 1, height);
  }
}
