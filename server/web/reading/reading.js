// A finished or growing transcript: a list of its segments.

export class Reading extends EventTarget {
  #segments = [];

  constructor(element) {
    super();
    this.list = document.createElement("ol");
    this.list.className = "plain";
    element.append(this.list);
  }

  setDuration() {}
  progress() {}
  finish() {}

  add(segment) {
    this.#segments.push(segment);
    const item = document.createElement("li");
    item.textContent = segment.text.trim();
    this.list.append(item);
  }

  segments() {
    return this.#segments;
  }

  destroy() {
    this.list.remove();
  }
}
