// The server as the corner of the page shows it: asked every few seconds, gone, back.

import { byId, say } from "./dom.js";

const IDLE = "idle";
const EVERY_MS = 5_000;
const WATCHED_EVERY_MS = 1_000; // while it works, or is gone

/** Emits `gone` when the server stops answering, `back` when it answers again. */
export class Status extends EventTarget {
  /** The entries of /api/ps: asked for seldom, as it takes the key and is logged. */
  running = [];
  #api;
  #timer;
  #alive = null;

  constructor(api) {
    super();
    this.#api = api;
    document.addEventListener("visibilitychange", () => document.hidden || this.look()); // timers rest meanwhile
  }

  /** Ask now, and from then on every few seconds; resolves to whether it answered. */
  async look() {
    clearTimeout(this.#timer);
    const health = await this.#api.get("health").catch(() => null);
    this.#show(health);
    this.#turn(health !== null);
    const calm = health && queueOf(health) === IDLE;
    this.#timer = setTimeout(() => this.look(), calm ? EVERY_MS : WATCHED_EVERY_MS);
    return health !== null;
  }

  #show(health) {
    byId("status").dataset.state = health ? "ok" : "gone";
    const { device } = this.running.find(({ id }) => id === health?.model) ?? {};
    const words = health ? [health.model, device, queueOf(health)] : ["No response"];
    say(byId("status-text"), words.filter(Boolean).join(" · "));
    if (health) byId("status").title = [`Sotto ${health.version}`, ...this.running.map(describe)].join("\n");
  }

  #turn(alive) {
    const before = this.#alive;
    this.#alive = alive;
    if (before === alive || (before === null && alive)) return;
    this.dispatchEvent(new Event(alive ? "back" : "gone"));
  }
}

function describe({ id, state, device, compute_type }) {
  return `${id}: ${[device, compute_type].filter(Boolean).join(", ") || state}`;
}

function queueOf({ queued_windows, running_windows }) {
  if (queued_windows) return `busy, ${queued_windows} waiting`;
  return running_windows ? "busy" : IDLE;
}
