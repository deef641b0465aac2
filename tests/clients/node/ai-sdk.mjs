// Vercel's AI SDK with its OpenAI provider, told by OPENAI_BASE_URL and OPENAI_API_KEY where the server is.
import { readFile } from "node:fs/promises";
import { createOpenAI, openai } from "@ai-sdk/openai";
import { experimental_transcribe } from "ai";
import { AUDIO, run } from "./cases.mjs";

async function transcribe({ name = "en_00.wav", model = "whisper-1", provider = openai, options = {}, ...rest } = {}) {
  const { text, segments, language, durationInSeconds, warnings, responses } = await experimental_transcribe({
    model: provider.transcription(model),
    audio: await readFile(new URL(name, AUDIO)),
    providerOptions: { openai: options },
    maxRetries: 0,
    ...rest,
  });
  return { text, segments, language, durationInSeconds, warnings, answered: responses[0].modelId };
}

run({
  defaults: async () => transcribe({ providerOptions: {} }),
  segments: () => transcribe(),
  german: () => transcribe({ name: "de_00.wav" }),
  words: () => transcribe({ options: { timestampGranularities: ["word"], language: "en", prompt: "A party." } }),
  gpt: () => transcribe({ model: "gpt-4o-transcribe", options: { temperature: 0 } }),
  logprobs: () => transcribe({ model: "gpt-4o-mini-transcribe", options: { include: ["logprobs"] } }),
  silence: () => transcribe({ name: "silence_10s.wav" }),
  wrong_key: () => transcribe({ provider: createOpenAI({ apiKey: "sk-wrong" }) }),
  unknown_model: () => transcribe({ model: "org/none" }),
  no_audio: () => transcribe({ audio: Buffer.from("no audio") }),
  bad_language: () => transcribe({ options: { language: "xx" } }),
});
