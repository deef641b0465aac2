// Segments as text, SubRip, WebVTT and JSON: byte for byte what the API answers (server/formats.py).

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // Python's
const EDGES = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");
const LINES = /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/;
const ARROW = /--+>/g;
const MIN_CUE_MS = 1;

const strip = (text) => text.replace(EDGES, "");
const milliseconds = (seconds) => Math.max(Math.round(seconds * 1000), 0);

/** Name, type and writer of each; a writer takes the answer of `verbose_json`. */
export const FORMATS = {
  txt: { label: "Text", type: "text/plain", write: text },
  srt: { label: "SRT", type: "application/x-subrip", write: srt },
  vtt: { label: "VTT", type: "text/vtt", write: vtt },
  json: { label: "JSON", type: "application/json", write: (verbose) => JSON.stringify(verbose, null, 1) + "\n" },
};

export function text({ segments }) {
  return strip(segments.map((segment) => segment.text).join("")) + "\n";
}

export function srt({ segments }) {
  const cues = cuesOf(segments).map(
    ([start, end, line], at) => `${at + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${line}\n\n`,
  );
  return cues.join("") + "\n";
}

export function vtt({ segments }) {
  const cues = cuesOf(segments).map(
    ([start, end, line]) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escape(line)}\n\n`,
  );
  return "WEBVTT\n\n" + cues.join("");
}

function cuesOf(segments) {
  return segments.map(cueOf).filter(([, , line]) => line);
}

function cueOf(segment) {
  const start = milliseconds(segment.start);
  const lines = segment.text.split(LINES).map(strip).filter(Boolean);
  return [start, Math.max(milliseconds(segment.end), start + MIN_CUE_MS), lines.join(" ").replace(ARROW, "->")];
}

function stamp(total, separator) {
  const digits = (value, count = 2) => String(value).padStart(count, "0");
  const seconds = Math.floor(total / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return `${digits(hours)}:${digits(minutes)}:${digits(seconds % 60)}${separator}${digits(total % 1000, 3)}`;
}

const escape = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
