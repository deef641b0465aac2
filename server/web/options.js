// The options of a request: a form that the browser remembers, and the fields it makes.

import { byId, say } from "./dom.js";
import { make } from "./reading/dom.js";
import { keep, recall } from "./storage.js";

const FIELDS = ["model", "language", "prompt", "words", "translate"];
const ALIAS = "whisper-1"; // means the default model
const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

export const languageName = (code) => (code ? names.of(code) : "");

export class Options {
  #models = [];

  constructor() {
    this.form = Object.fromEntries(FIELDS.map((name) => [name, byId(name)]));
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

  #values() {
    const { model, language, prompt, words, translate } = this.form;
    return {
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
    ];
    say(byId("options-say"), parts.filter(Boolean).join(" · "));
  }
}
