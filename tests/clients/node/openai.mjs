// npm openai, told by OPENAI_BASE_URL and OPENAI_API_KEY where the server is.

import { createReadStream, openAsBlob } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";
import { AUDIO, run } from "./cases.mjs";

const SPEECH = new URL("en_00.wav", AUDIO);
const TEN_MINUTES = new URL("ten_minutes.ogg", AUDIO);
const TOO_LARGE = 9 << 20;

const client = new OpenAI({ maxRetries: 0 });

function transcribe(params, options) {
  const file = createReadStream(SPEECH);
  return client.audio.transcriptions.create({ file, model: "whisper-1", ...params }, options);
}

function translate(params) {
  return client.audio.translations.create({ file: createReadStream(SPEECH), model: "whisper-1", ...params });
}

async function buffered() {
  return toFile(await readFile(SPEECH), "speech.wav");
}

const uploads = {
  stream: () => transcribe(),
  file: async () => transcribe({ file: new File([await readFile(SPEECH)], "speech.wav", { type: "audio/wav" }) }),
  buffer: async () => transcribe({ file: await buffered() }),
  blob: async () => transcribe({ file: await toFile(await openAsBlob(SPEECH)) }),
};

const fields = {
  text: () => transcribe({ response_format: "text" }),
  srt: () => transcribe({ response_format: "srt" }),
  vtt: () => transcribe({ response_format: "vtt" }),
  verbose: () => transcribe({ response_format: "verbose_json" }),
  words: () => transcribe({ response_format: "verbose_json", timestamp_granularities: ["word"] }),
  words_and_segments: () =>
    transcribe({ response_format: "verbose_json", timestamp_granularities: ["word", "segment"] }),
  scalars: () => transcribe({ model: "gpt-4o-transcribe", language: "en", prompt: "A party.", temperature: 0.2 }),
  // This package knows no `extra_body` for parameters: the cloud's own samples arrive as `extra_body[...]`.
  extra_body: () =>
    transcribe({ response_format: "verbose_json", extra_body: { timestamp_granularities: ["word"] } }),
};

const translations = {
  translated: () => translate(),
  translated_text: () => translate({ response_format: "text" }),
  translated_verbose: () => translate({ response_format: "verbose_json" }),
};

const models = {
  models: async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return ids;
  },
  model_with_slash: () => client.models.retrieve("acme/demo"),
};

const around = {
  request_id: async () => {
    const { data, response, request_id } = await transcribe().withResponse();
    return { text: data.text, request_id, headers: Object.fromEntries(response.headers) };
  },
  aborted: () => transcribe({ file: createReadStream(TEN_MINUTES) }, { signal: AbortSignal.timeout(1000) }),
  timed_out: () => transcribe({ file: createReadStream(TEN_MINUTES) }, { timeout: 1000 }),
};

const errors = {
  bad_temperature: () => transcribe({ temperature: 3 }),
  no_audio: async () => transcribe({ file: await toFile(Buffer.from("no audio"), "speech.mp3") }),
  wrong_key: () => client.withOptions({ apiKey: "sk-wrong" }).models.list(),
  unknown_model: () => transcribe({ model: "org/none" }),
  unknown_model_retrieved: () => client.models.retrieve("org/a name"),
  unknown_path: () => client.post("/nowhere", { body: {} }),
  too_large: async () => transcribe({ file: await toFile(Buffer.alloc(TOO_LARGE), "speech.wav") }),
  too_large_in_chunks: () => transcribe({ file: createReadStream("/dev/zero", { end: TOO_LARGE }) }),
};

const whileBusy = {
  refused: () => transcribe(),
  retried: async () => transcribe({ file: await buffered() }, { maxRetries: 2 }),
};

run({ ...uploads, ...fields, ...translations, ...models, ...around, ...errors }, whileBusy);
