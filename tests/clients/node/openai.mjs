// npm openai, told by OPENAI_BASE_URL and OPENAI_API_KEY where the server is.

import { createReadStream, openAsBlob } from "node:fs";
import { readFile } from "node:fs/promises";
import OpenAI, { AzureOpenAI, toFile } from "openai";
import { AUDIO, run } from "./cases.mjs";

const SPEECH = new URL("en_00.wav", AUDIO);
const TEN_MINUTES = new URL("ten_minutes.ogg", AUDIO);
const TWO_SENTENCES = new URL("long_pause.flac", AUDIO);
const TOO_LARGE = 9 << 20;

const REFERENCE = Buffer.alloc(10 * 24_000 * 2).toString("base64"); // ten seconds, over half a megabyte of text
const ROOT = new URL(process.env.OPENAI_BASE_URL).origin;

const client = new OpenAI({ maxRetries: 0 });

function transcribe(params, options) {
  const file = createReadStream(SPEECH);
  return client.audio.transcriptions.create({ file, model: "whisper-1", ...params }, options);
}

function transcribeAt(baseURL) {
  const there = client.withOptions({ baseURL });
  return there.audio.transcriptions.create({ file: createReadStream(SPEECH), model: "whisper-1" });
}

function translate(params) {
  return client.audio.translations.create({ file: createReadStream(SPEECH), model: "whisper-1", ...params });
}

async function stream(params, seen = () => {}) {
  const events = [];
  for await (const event of await transcribe({ stream: true, ...params })) {
    events.push(event);
    if (seen(event) === "enough") break;
  }
  return events;
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
  usage: () => transcribe({ model: "gpt-4o-transcribe" }),
  logprobs: () => transcribe({ model: "gpt-4o-transcribe", include: ["logprobs"] }),
  lists: () =>
    transcribe({ model: "gpt-transcribe", languages: ["en", "de"], keywords: ["party", "o'clock"], include: [] }),
  chunked: () => transcribe({ chunking_strategy: "auto" }),
  chunked_by_voice: () =>
    transcribe({
      chunking_strategy: { type: "server_vad", threshold: 0.4, prefix_padding_ms: 200, silence_duration_ms: 300 },
    }),
  speakers: () =>
    transcribe({ known_speaker_names: ["Ann"], known_speaker_references: [`data:audio/wav;base64,${REFERENCE}`] }),
  // This package knows no `extra_body` for parameters: the cloud's own samples arrive as `extra_body[...]`.
  extra_body: () =>
    transcribe({
      response_format: "verbose_json",
      extra_body: { timestamp_granularities: ["word", "segment"], nested_words: true },
    }),
};

const streams = {
  streamed: () => stream({ model: "gpt-4o-mini-transcribe" }),
  streamed_windows: () => stream({ file: createReadStream(TWO_SENTENCES) }),
  streamed_with_logprobs: () => stream({ model: "gpt-4o-transcribe", include: ["logprobs"] }),
  streamed_in_another_format: () => stream({ response_format: "srt" }),
  streamed_silence: () => stream({ file: createReadStream(new URL("silence_10s.wav", AUDIO)) }),
  stream_refused: async () => stream({ file: await toFile(Buffer.from("no audio"), "speech.mp3") }),
  stream_left: () => stream({ file: createReadStream(TEN_MINUTES) }, () => "enough"),
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

// Addresses that people give instead of the one that ends in /v1.
const addresses = {
  azure: () => {
    const azure = new AzureOpenAI({ endpoint: ROOT, apiVersion: "2024-10-21", baseURL: null, maxRetries: 0 });
    return azure.audio.transcriptions.create({ file: createReadStream(SPEECH), model: "whisper-1" });
  },
  without_v1: () => transcribeAt(ROOT),
  like_groq: () => transcribeAt(`${ROOT}/openai/v1`),
  trailing_slash: () => transcribeAt(`${ROOT}/v1/`),
  v1_twice: () => transcribeAt(`${ROOT}/v1/v1`),
  whole_path: () => transcribeAt(`${ROOT}/v1/audio/transcriptions`),
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
  bad_chunking: () => transcribe({ chunking_strategy: { type: "server_vad", threshold: 2 } }),
  diarized: () => transcribe({ response_format: "diarized_json" }),
  bad_temperature: () => transcribe({ temperature: 3 }),
  no_audio: async () => transcribe({ file: await toFile(Buffer.from("no audio"), "speech.mp3") }),
  wrong_key: () => client.withOptions({ apiKey: "sk-wrong" }).models.list(),
  unknown_model: () => transcribe({ model: "org/none" }),
  unknown_model_retrieved: () => client.models.retrieve("org/a name"),
  unknown_path: () => client.post("/nowhere", { body: {} }),
  too_large: async () => transcribe({ file: await toFile(Buffer.alloc(TOO_LARGE), "speech.wav") }),
  too_large_in_chunks: () => transcribe({ file: createReadStream("/dev/zero", { end: TOO_LARGE }) }),
};

const alone = {
  // The test waits for the first event, and then ends the server.
  stream_cut: () => stream({ file: createReadStream(TEN_MINUTES) }, () => console.error("an event")),
  refused: () => transcribe(),
  retried: async () => transcribe({ file: await buffered() }, { maxRetries: 2 }),
};

run({ ...uploads, ...fields, ...streams, ...translations, ...models, ...addresses, ...around, ...errors }, alone);
