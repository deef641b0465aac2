// Server-sent events as the API sends them: lines of `data:`, comments between, `[DONE]` at the end.

export const DONE = Symbol("[DONE]");

/** Turns pieces of a stream, cut anywhere, into events. */
export class EventParser {
  #rest = "";

  /** The events that `text` completes. */
  *push(text) {
    const blocks = (this.#rest + text).split(/\r\n\r\n|\n\n/);
    // "\r\n\r" may be the beginning of an end: what has no end yet waits for the next piece.
    this.#rest = blocks.pop();
    for (const block of blocks) {
      const data = block
        .split(/\r?\n/)
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart())
        .join("\n");
      if (data) yield data === "[DONE]" ? DONE : JSON.parse(data);
    }
  }
}
