// Which recordings are sent when: two at a time, in order; the rest waits, is tried again, or goes on when it can.

import { ACTIVE, HELD, SETTLED } from "./job.js";

const AT_ONCE = 2;
export const MOST = 100; // recordings that may wait

export class Queue {
  #jobs = [];
  #timers = new Map();

  constructor(api) {
    this.api = api;
  }

  /** How many more recordings it takes. */
  get room() {
    return MOST - this.#jobs.filter((job) => !SETTLED.has(job.state)).length;
  }

  add(job) {
    this.#jobs.push(job);
    job.addEventListener("change", () => this.#changed(job));
    this.#advance();
  }

  remove(job) {
    if (!SETTLED.has(job.state)) job.cancel();
    this.#jobs = this.#jobs.filter((other) => other !== job);
  }

  /** Try those again that are in `state`. */
  resume(state) {
    for (const job of this.#jobs) if (job.state === state) job.retry();
  }

  #changed(job) {
    clearTimeout(this.#timers.get(job));
    this.#timers.delete(job);
    if (job.state === "refused") {
      this.#timers.set(job, setTimeout(() => job.retry(), Math.max(0, job.retryAt - Date.now())));
    }
    this.#advance();
  }

  // What holds one back would hold back those behind it too.
  #advance() {
    const busy = this.#jobs.filter((job) => ACTIVE.has(job.state)).length;
    const held = this.#jobs.some((job) => HELD.has(job.state));
    const next = this.#jobs.find((job) => job.state === "waiting");
    if (next && !held && busy < AT_ONCE) next.start(this.api);
  }
}
