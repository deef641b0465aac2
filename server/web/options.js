// The options of a request: a form that the browser remembers, and the fields it makes.

import { byId, make, say } from "./dom.js";
import { keep, recall } from "./storage.js";

const FIELDS = ["model", "language", "prompt", "words", "translate"];
// Fields of the form, and of requests: docs/api.md, Subtitles.
const SHAPING = {
  width: "max_line_width", count: "max_line_count", shortest: "min_cue_seconds", longest: "max_cue_seconds",
};
const LONGEST_S = 7; // where it is not given
const ALIAS = "whisper-1"; // means the default model
// Of states; loaded needs none.
const NOTES = { available: "loads on first use", loading: "loading", broken: "unavailable" };
const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

export const languageName = (code) => (code ? names.of(code) : "");

export class Options {
  #models = [];

  constructor() {
    this.form = Object.fromEntries([...FIELDS, ...Object.keys(SHAPING)].map((name) => [name, byId(name)]));
    this.#restore(recall("options") ?? {});
    this.#checkShape();
    byId("options").addEventListener("input", () => this.#changed());
    this.#summarise();
  }

  /** Offer these models, the entries of /v1/models, the first of which is the default. */
  offer(models) {
    this.#models = models.filter((model) => model.id !== ALIAS);
    const { model } = this.form;
    const wanted = model.value;
    const [first, ...others] = this.#models;
    model.replaceChildren(
      option("", first ? called(first, "default") : "No models installed", warningOf(first)),
      ...others.map((each) => option(each.id, called(each), warningOf(each))),
    );
    if (others.some(({ id }) => id === wanted)) model.value = wanted;
    this.#offerLanguages();
    this.#summarise();
    this.#warn();
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
      ["response_dialect", "nested"],
      ["timestamp_granularities[]", "word"],
      ["stream_events[]", "segments"],
      ["stream_events[]", "progress"],
    ];
    const path = `v1/audio/${translate ? "translations" : "transcriptions"}`;
    return { task, path, fields: fields.filter(([, value]) => value) };
  }

  /** The fields of a request that shape subtitles; none where each segment is a cue. */
  shaping() {
    const given = Object.entries(this.#shape()).filter(([, value]) => value);
    return Object.fromEntries(given.map(([name, value]) => [SHAPING[name], Number(value)]));
  }

  /** What is typed, but for what the fields don't allow. */
  #shape() {
    const allowed = (name) => (this.form[name].validity.valid ? this.form[name].value : "");
    return Object.fromEntries(Object.keys(SHAPING).map((name) => [name, allowed(name)]));
  }

  #checkShape() {
    const { shortest } = this.form;
    const most = Number(this.#shape().longest || LONGEST_S);
    shortest.setCustomValidity(Number(shortest.value) > most ? `Must not exceed the longest, ${most}.` : "");
    const wrong = Object.keys(SHAPING).map((name) => this.form[name]).find((field) => !field.validity.valid);
    say(byId("shaping-says"), wrong ? `${wrong.labels[0].textContent.trim()}: ${wrong.validationMessage}` : "");
    byId("shaping-says").hidden = !wrong;
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
    // Whether there are such is not known yet.
    if (kept.model) this.form.model.replaceChildren(option(kept.model, kept.model));
    if (kept.language) this.form.language.replaceChildren(option(kept.language, languageName(kept.language)));
  }

  #changed() {
    if (this.#models.length) this.#offerLanguages();
    this.#checkShape();
    keep("options", this.#values());
    this.#summarise();
    this.#warn();
  }

  /** The entry of the model that would be used, once the models are known. */
  get #chosen() {
    return this.#models.find(({ id }) => id === this.form.model.value) ?? this.#models[0];
  }

  /** The languages of the chosen model; of one that goes by another name, its own entry has them. */
  get #languages() {
    const chosen = this.#chosen;
    return chosen?.languages ?? this.#models.find(({ id }) => id === chosen?.root)?.languages ?? [];
  }

  #offerLanguages() {
    const { language } = this.form;
    const wanted = language.value;
    const codes = this.#languages.toSorted((a, b) => languageName(a).localeCompare(languageName(b)));
    language.replaceChildren(
      option("", "Detect"),
      ...codes.map((code) => option(code, languageName(code))),
    );
    if (codes.includes(wanted)) language.value = wanted;
  }

  #summarise() {
    const { model, language, prompt, words, translate } = this.#values();
    const parts = [
      model,
      languageName(language),
      prompt && "context",
      words && "expected words",
      translate && "into English",
      Object.keys(this.shaping()).length && "custom subtitles",
    ];
    say(byId("options-say"), parts.filter(Boolean).join(" · "));
  }

  #warn() {
    byId("demo").hidden = !this.#chosen?.demo;
  }
}

const option = (value, label, title) => make("option", { value, title }, label);

const warningOf = (model) => (model?.demo ? byId("demo").textContent : null);

/** A model's name, with what is to be known before it is chosen. */
function called({ id, state }, note) {
  const notes = [note, NOTES[state]].filter(Boolean);
  return notes.length ? `${id} (${notes.join(", ")})` : id;
}
