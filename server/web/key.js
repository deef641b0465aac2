// The key that the server may ask for: typed here, kept only if asked.

import { byId, say } from "./dom.js";
import { keep, recall } from "./storage.js";

/** Emits `given` with each key that is typed. */
export class KeyForm extends EventTarget {
  #api;

  constructor(api) {
    super();
    this.#api = api;
    api.key = recall("key") ?? "";
    byId("key").addEventListener("submit", (event) => {
      event.preventDefault();
      api.key = byId("key-value").value.trim();
      keep("key", byId("key-keep").checked ? api.key : null);
      this.dispatchEvent(new Event("given"));
    });
  }

  ask() {
    const again = this.#api.key;
    byId("key").hidden = false;
    byId("key-keep").checked = recall("key") !== null;
    say(byId("key-says"), again ? "The server rejected this key." : "This server requires an API key.");
    byId("key-value").setAttribute("aria-invalid", String(Boolean(again)));
    byId("key-value").focus();
  }

  accept() {
    const focused = byId("key").contains(document.activeElement);
    byId("key").hidden = true;
    byId("key-value").value = "";
    if (focused) byId("choose").focus();
  }
}
