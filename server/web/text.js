// Text as Python cuts it: what is a space there, what a line, and how a cue shows it (server/formats/subtitles.py).

export const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const EDGES = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");
const LINES = /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/;
const ARROW = /--+>/g;

export const strip = (text) => text.replace(EDGES, "");

/** `text` on one line and without `-->`, so that it cannot end its cue or begin another one. */
export function cueText(text) {
  return text.split(LINES).map(strip).filter(Boolean).join(" ").replace(ARROW, "->");
}

export const milliseconds = (seconds) => Math.max(Math.round(seconds * 1000), 0);
