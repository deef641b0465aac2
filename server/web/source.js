// Where recordings come from: dropped anywhere on the page, chosen, spoken, or the server's own sample.

import { byId, say } from "./dom.js";
import { Recorder } from "./recorder.js";
import { clock } from "./times.js";

const SAMPLE = "assets/sample.wav";
const BAR = 5; // pixels of the level's picture, with the space beside it

/** Emits `files` with a list of them. */
export class Source extends EventTarget {
  #recorder = null;
  #opening = false; // the microphone, while the browser asks whether we may, or the sample
  #levels = [];

  constructor() {
    super();
    const files = byId("files");
    byId("choose").addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      this.#give([...files.files]);
      files.value = "";
    });
    byId("record").addEventListener("click", () => this.#record());
    byId("sample").addEventListener("click", () => this.#sample());
    byId("stop").addEventListener("click", () => this.#stop());
    byId("discard").addEventListener("click", () => this.#end());
    this.#takeDrops();
  }

  get isRecording() {
    return this.#recorder !== null;
  }

  /** Say what is wrong with what was given; nothing takes it back. */
  complain(text = "") {
    say(byId("source-says"), text);
    byId("source-says").hidden = !text;
  }

  #give(files) {
    this.complain();
    if (files.length) this.dispatchEvent(new CustomEvent("files", { detail: files }));
  }

  #takeDrops() {
    const isFiles = (event) => event.dataTransfer?.types.includes("Files");
    const on = (type, handle) =>
      document.addEventListener(type, (event) => {
        if (!isFiles(event)) return;
        event.preventDefault();
        handle(event);
      });
    const show = (dropping) => document.body.classList.toggle("dropping", dropping);
    on("dragover", () => show(true));
    on("dragleave", (event) => show(event.relatedTarget !== null)); // within the page it is for another element
    on("drop", (event) => {
      show(false);
      this.#drop(event.dataTransfer);
    });
  }

  #drop({ files, items }) {
    const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory;
    const folders = [...items].map(isFolder);
    this.#give([...files].filter((_, at) => !folders[at]));
    if (folders.some(Boolean)) this.complain("Folders can't be opened: drop the files in them instead.");
  }

  async #sample() {
    if (this.#opening) return;
    this.#opening = true;
    try {
      const response = await fetch(SAMPLE);
      if (!response.ok) throw new Error(response.statusText);
      this.#give([new File([await response.blob()], "sample.wav", { type: "audio/wav" })]);
      byId("choose").focus(); // the button goes once there is a recording
    } catch {
      this.complain("The sample could not be loaded.");
    } finally {
      this.#opening = false;
    }
  }

  async #record() {
    if (this.#opening) return;
    this.complain();
    this.#opening = true;
    try {
      this.#recorder = await Recorder.start();
    } catch (error) {
      this.complain(refusal(error));
      return;
    } finally {
      this.#opening = false;
    }
    this.#levels = [];
    this.#turn(true);
    byId("stop").focus();
    requestAnimationFrame(() => this.#draw());
  }

  async #stop() {
    const recorder = this.#recorder;
    const file = await recorder.stop();
    if (recorder !== this.#recorder) return; // discarded meanwhile, or a second click
    this.#end();
    this.#give([file]);
  }

  #end() {
    this.#recorder.discard();
    this.#recorder = null;
    this.#turn(false);
    byId("record").focus();
  }

  #turn(recording) {
    byId("choosing").hidden = recording;
    byId("recording").hidden = !recording;
  }

  #draw() {
    if (!this.#recorder) return;
    say(byId("clock"), clock(this.#recorder.seconds));
    const canvas = byId("level");
    this.#levels.push(this.#recorder.level());
    this.#levels = this.#levels.slice(-Math.floor(canvas.width / BAR));
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = getComputedStyle(canvas).color;
    this.#levels.forEach((level, at) => {
      const height = Math.max(2, level * canvas.height);
      pen.fillRect(at * BAR, (canvas.height - height) / 2, BAR - 2, height);
    });
    requestAnimationFrame(() => this.#draw());
  }
}

function refusal(error) {
  if (!navigator.mediaDevices) return "Browsers allow the microphone only on HTTPS or on the server's own machine.";
  if (error.name === "NotAllowedError") return "The browser denied access to the microphone.";
  if (error.name === "NotFoundError") return "No microphone was found.";
  return `The microphone could not be used: ${error.message}`;
}
