// The options of a request: a form that the browser remembers, and the fields it makes.

import { byId, say } from "./dom.js";
import { make } from "./reading/dom.js";
import { keep, recall } from "./storage.js";

const FIELDS = ["model", "language", "prompt", "words", "translate"];
const SHAPING = { width: 42, count: 2, shortest: 1, longest: 7 }; // where not all are given: docs/api.md, Subtitles
const ALIAS = "whisper-1"; // means the default model
const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

export const languageName = (code) => (code ? names.of(code) : "");

export class Options {
  #models = [];

  constructor() {
    this.form = Object.fromEntries([...FIELDS, ...Object.keys(SHAPING)].map((name) => [name, byId(name)]));
    this.#restore(recall("options") ?? {});
    byId("options").addEventListener("input", () => this.#changed());
    this.#summarise();
  }

  /** Offer these models, the entries of /v1/models, the first of which is the default. */
  offer(models) {
    this.#models = models.filter((model) => model.id !== ALIAS);
    const { model } = this.form;
    const wanted = model.value || recall("options")?.model;
    const [first, ...others] = this.#models.map(({ id }) => id);
    model.replaceChildren(
      make("option", { value: "" }, `${first} (default)`),
      ...others.map((id) => make("option", { value: id }, id)),
    );
    if (others.includes(wanted)) model.value = wanted;
    this.#offerLanguages();
    this.#summarise();
  }

  /** What a request with these options is: `path`, `fields` (pairs) and `task`. */
  request() {
    const { model, language, prompt, words, translate } = this.#values();
    const task = translate ? "translate" : "transcribe";
    const fields = [
      ["model", model || ALIAS],
      ["language", language],
      ["prompt", prompt],
      ["hotwords", words],
      ["stream", "true"],
      ["response_format", "verbose_json"],
      ["timestamp_granularities[]", "word"],
      ["stream_events[]", "segments"],
      ["stream_events[]", "progress"],
    ];
    const path = `v1/audio/${translate ? "translations" : "transcriptions"}`;
    return { task, path, fields: fields.filter(([, value]) => value) };
  }

  /** How subtitles are shaped; null where each segment is a cue. */
  shaping() {
    const given = this.#shape();
    const [width, count, shortest, longest] = Object.keys(SHAPING).map((name) => Number(given[name] || SHAPING[name]));
    const isAsked = Object.values(given).some(Boolean);
    return isAsked ? { width, count, minMs: Math.round(shortest * 1000), maxMs: Math.round(longest * 1000) } : null;
  }

  /** What is typed, but for what the fields don't allow. */
  #shape() {
    const allowed = ([, field]) => (field.validity.valid ? field.value : "");
    const fields = Object.entries(this.form).filter(([name]) => name in SHAPING);
    return Object.fromEntries(fields.map((each) => [each[0], allowed(each)]));
  }

  #values() {
    const { model, language, prompt, words, translate } = this.form;
    return {
      ...this.#shape(),
      model: model.value,
      language: language.value,
      prompt: prompt.value.trim(),
      words: words.value.trim(),
      translate: translate.checked,
    };
  }

  #restore(kept) {
    this.form.prompt.value = kept.prompt ?? "";
    this.form.words.value = kept.words ?? "";
    this.form.translate.checked = kept.translate ?? false;
    for (const name of Object.keys(SHAPING)) this.form[name].value = kept[name] ?? "";
  }

  #changed() {
    this.#offerLanguages();
    keep("options", this.#values());
    this.#summarise();
  }

  #offerLanguages() {
    const { model, language } = this.form;
    const chosen = this.#models.find(({ id }) => id === model.value) ?? this.#models[0];
    const wanted = language.value || recall("options")?.language;
    const codes = (chosen?.languages ?? []).toSorted((a, b) => languageName(a).localeCompare(languageName(b)));
    language.replaceChildren(
      make("option", { value: "" }, "Detect"),
      ...codes.map((code) => make("option", { value: code }, languageName(code))),
    );
    if (codes.includes(wanted)) language.value = wanted;
  }

  #summarise() {
    const { model, language, prompt, words, translate } = this.#values();
    const parts = [
      model,
      languageName(language),
      prompt && "context",
      words && "words to expect",
      translate && "into English",
      this.shaping() && "shaped subtitles",
    ];
    say(byId("options-say"), parts.filter(Boolean).join(" · "));
  }
}
