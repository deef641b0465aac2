// Segments as text, SubRip, WebVTT and JSON: byte for byte what the API answers (server/formats/render.py).

import { shape } from "./subtitles.js";
import { cueText, milliseconds, strip } from "./text.js";

const MIN_CUE_MS = 1;

/** Name, type and writer of each. A writer takes the answer of `verbose_json`, and how to shape cues, if at all. */
export const FORMATS = {
  txt: { label: "Text", type: "text/plain", write: text },
  srt: { label: "SRT", type: "application/x-subrip", write: srt },
  vtt: { label: "VTT", type: "text/vtt", write: vtt },
  json: { label: "JSON", type: "application/json", write: (verbose) => JSON.stringify(verbose, null, 1) + "\n" },
};

function text({ segments }) {
  return strip(segments.map((segment) => segment.text).join("")) + "\n";
}

function srt(verbose, shaping) {
  const cues = cuesOf(verbose, shaping).map(
    ({ start, end, lines }, at) => `${at + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${lines.join("\n")}\n\n`,
  );
  return cues.join("") + "\n";
}

function vtt(verbose, shaping) {
  const cues = cuesOf(verbose, shaping).map(
    ({ start, end, lines }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escape(lines.join("\n"))}\n\n`,
  );
  return "WEBVTT\n\n" + cues.join("");
}

function cuesOf(verbose, shaping) {
  if (shaping) return [...shape(verbose, shaping)];
  return verbose.segments.map(cueOf).filter(({ lines }) => lines[0]);
}

function cueOf(segment) {
  const start = milliseconds(segment.start);
  return { start, end: Math.max(milliseconds(segment.end), start + MIN_CUE_MS), lines: [cueText(segment.text)] };
}

function stamp(total, separator) {
  const digits = (value, count = 2) => String(value).padStart(count, "0");
  const seconds = Math.floor(total / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return `${digits(hours)}:${digits(minutes)}:${digits(seconds % 60)}${separator}${digits(total % 1000, 3)}`;
}

const escape = (lines) => lines.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
