// What a transcript is saved as. Text and JSON are written here, so that they need no server; subtitles by the server
// (`Api.render`), which alone knows how cues are shaped.

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // to Python
const EDGES = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");

/** Name and type of each; `write` takes the answer of `verbose_json`. */
export const FORMATS = {
  txt: { label: "Text", type: "text/plain", write: text },
  srt: { label: "SRT", type: "application/x-subrip" },
  vtt: { label: "VTT", type: "text/vtt" },
  json: { label: "JSON", type: "application/json", write: (verbose) => JSON.stringify(verbose, null, 1) + "\n" },
};

function text({ segments }) {
  return segments.map((segment) => segment.text).join("").replace(EDGES, "") + "\n";
}
