// The server's public API as the page uses it. Knows the key; shows nothing.

import { DONE, EventParser } from "./sse.js";

const RETRY_S = 5;
const ANSWER_MS = 10_000;
const RENDER_MS = 60_000; // a long transcript over a slow line

export class Api {
  key = "";

  /** The JSON of a GET; throws `ApiError`, whose status is 0 if no answer came. */
  async get(path) {
    return JSON.parse(await this.#fetch(path, { cache: "no-store", headers: this.#headers() }, ANSWER_MS));
  }

  /** The text that the server makes of a transcript, a `verbose_json` with a `response_format`; throws as `get`. */
  render(transcript) {
    const headers = { ...this.#headers(), "Content-Type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(transcript) };
    return this.#fetch("v1/audio/transcriptions/render", request, RENDER_MS);
  }

  async #fetch(path, request, timeoutMs) {
    let response, text;
    try {
      response = await fetch(path, { ...request, signal: AbortSignal.timeout(timeoutMs) });
      text = await response.text();
    } catch {
      throw new ApiError(0, "The server does not respond.");
    }
    if (!response.ok) throw new ApiError(response.status, messageIn(text));
    return text;
  }

  /**
   * Send a file to be transcribed; returns a function that gives it up. `fields` are pairs.
   * Calls `on.sent(fraction)`, `on.event(event)` and once `on.end(Outcome)`, unless it was given up.
   *
   * XMLHttpRequest, because fetch does not tell how far an upload has come.
   */
  transcribe(path, file, fields, on) {
    const request = new XMLHttpRequest();
    const parser = new EventParser();
    const seen = { length: 0, done: false, error: null };
    const read = () => {
      if (request.status !== 200) return;
      const text = request.responseText.slice(seen.length);
      seen.length += text.length;
      for (const event of parser.push(text)) {
        if (event === DONE) seen.done = true;
        else if (event.error) seen.error = event.error;
        else on.event(event);
      }
    };
    request.upload.onprogress = ({ loaded, total }) => on.sent(total ? loaded / total : 0);
    request.upload.onload = () => on.sent(1);
    request.onprogress = read;
    request.onload = () => {
      read();
      on.end(outcomeOf(request, seen));
    };
    request.onerror = () => on.end({ kind: "lost", message: "The connection to the server was lost." });
    request.open("POST", path);
    for (const [name, value] of Object.entries(this.#headers())) request.setRequestHeader(name, value);
    request.send(formOf(file, fields));
    return () => request.abort();
  }

  #headers() {
    return this.key ? { Authorization: `Bearer ${this.key}` } : {};
  }
}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** How a request ended: `done`, `locked` (the key), `refused` (come back in `retryS`), `lost` or `failed`. */
function outcomeOf(request, { done, error }) {
  if (request.status === 200) {
    if (done) return { kind: "done" };
    // What breaks off within an answer is the server's: it stops, or its engine is replaced.
    if (!error || error.type === "server_error") {
      return { kind: "lost", message: error?.message ?? "The response ended early." };
    }
    return { kind: "failed", message: error.message };
  }
  const message = messageIn(request.responseText);
  if (request.status === 401) return { kind: "locked", message };
  const retryS = Number(request.getResponseHeader("Retry-After"));
  if (request.status === 429 || request.status === 503) {
    return { kind: "refused", message, retryS: retryS > 0 ? retryS : RETRY_S };
  }
  return { kind: "failed", message };
}

function messageIn(body) {
  try {
    return JSON.parse(body).error.message;
  } catch {
    return "The server's response could not be read.";
  }
}

function formOf(file, fields) {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  form.append("file", file, file.name);
  return form;
}
