// One recording on its way: its state, progress and transcript. Knows no element of the page.

/** States in which nothing more happens by itself. */
export const SETTLED = new Set(["done", "failed", "cancelled"]);
/** States in which something outside has to change first. */
export const HELD = new Set(["refused", "lost", "locked"]);
/** States in which a request is open. */
export const ACTIVE = new Set(["uploading", "queued", "running"]);
const MAX_BREAKS = 3; // a connection that breaks so often, before a server that is there, is no accident

/**
 * `waiting` -> `uploading` -> `queued` -> `running` -> `done`, or aside:
 * `refused` (until `retryAt`), `lost` (until the server is back), `locked` (until there is a key), `failed`, `cancelled`.
 * Emits `change`; `segment` with each; `reset` when it begins again and the text so far does not count.
 */
export class Job extends EventTarget {
  state = "waiting";
  message = "";
  sent = 0;
  doneS = 0;
  totalS;
  position = 0;
  language = "";
  text = "";
  retryAt = 0;
  speed = 0;
  segments = [];
  #abort = () => {};
  #breaks = 0;
  #beganAt = 0;

  /** `request` is what the options asked for: `path`, `fields`, `task`. */
  constructor(file, request) {
    super();
    this.file = file;
    this.name = file.name;
    this.request = request;
    this.totalS = file.durationS;
  }

  start(api) {
    const again = this.segments.length > 0;
    Object.assign(this, { sent: 0, doneS: 0, position: 0, speed: 0, segments: [], message: "" });
    this.#beganAt = 0;
    if (again) this.dispatchEvent(new Event("reset"));
    this.#become("uploading");
    this.#abort = api.transcribe(this.request.path, this.file, this.request.fields, {
      sent: (fraction) => this.#sent(fraction),
      event: (event) => this.#event(event),
      end: (outcome) => this.#end(outcome),
    });
  }

  cancel() {
    this.#abort();
    this.#become("cancelled");
  }

  /** Let it be started once more, from the beginning. */
  retry() {
    if (SETTLED.has(this.state)) this.#breaks = 0; // somebody asked for it
    this.#become("waiting");
  }

  /** Seconds until it will be done, if that can be estimated. */
  get leftS() {
    return this.totalS && this.speed ? Math.max(0, this.totalS - this.doneS) / this.speed : undefined;
  }

  /** How much of it is done, 0 to 1; undefined where nothing tells. */
  get fraction() {
    if (this.state === "uploading") return this.sent;
    return this.totalS ? Math.min(1, this.doneS / this.totalS) : undefined;
  }

  /** As `verbose_json` in the dialect `nested`, from these segments. */
  verbose(segments = this.segments) {
    const code = this.request.task === "translate" ? "en" : this.language || "en";
    const answer = {
      task: this.request.task,
      language: code,
      language_code: code,
      duration: this.doneS,
      text: segments.map((segment) => segment.text).join("").trim(),
      segments,
    };
    if (this.request.task === "transcribe") answer.usage = { type: "duration", seconds: Math.ceil(this.doneS) };
    return answer;
  }

  #sent(fraction) {
    if (this.state !== "uploading") return;
    this.sent = fraction;
    this.#become(fraction < 1 ? "uploading" : "queued");
  }

  #event(event) {
    if (event.type === "sotto.progress") this.#progress(event);
    if (event.type === "sotto.segment") {
      const { type, ...segment } = event;
      this.segments.push(segment);
      this.dispatchEvent(new CustomEvent("segment", { detail: segment }));
    }
  }

  #progress({ done_s, total_hint_s, queue_position, language }) {
    const now = performance.now() / 1000;
    if (!this.#beganAt && queue_position === 0) this.#beganAt = now;
    this.doneS = done_s;
    this.totalS = total_hint_s === undefined ? this.totalS : Math.max(total_hint_s, done_s);
    this.position = queue_position;
    this.language = language ?? this.language;
    if (done_s && this.#beganAt && now > this.#beganAt) this.speed = done_s / (now - this.#beganAt);
    this.#become(queue_position === 0 ? "running" : "queued");
  }

  #end(outcome) {
    this.message = outcome.message ?? "";
    if (outcome.kind === "refused") this.retryAt = Date.now() + outcome.retryS * 1000;
    if (outcome.kind === "lost" && ++this.#breaks >= MAX_BREAKS) return this.#become("failed");
    if (outcome.kind === "done") this.totalS = this.doneS;
    this.#become(outcome.kind);
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
