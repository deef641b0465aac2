// Changing words in place. Enter or leaving keeps the change, Escape drops it, Tab goes on with the next word.

export class Editing {
  #text;
  #transcript;
  #piece = null;
  #span = null;

  constructor(text, transcript) {
    this.#text = text;
    this.#transcript = transcript;
    text.addEventListener("edit", (event) => this.begin(event.detail));
    text.scroller.addEventListener("keydown", (event) => this.#span && this.#key(event));
    text.scroller.addEventListener("focusout", (event) => event.target === this.#span && this.#end(true));
  }

  begin(piece) {
    if (this.#span) this.#end(true);
    if (!piece?.text) return;
    this.#text.goTo(piece);
    this.#piece = piece;
    this.#span = this.#text.spanOf(piece);
    this.#span.contentEditable = "true";
    this.#span.setAttribute("role", "textbox");
    this.#span.setAttribute("aria-label", "Edit; Enter to keep");
    this.#span.focus();
    getSelection().selectAllChildren(this.#span);
  }

  #key(event) {
    const { key } = event;
    if (event.isComposing || !["Enter", "Escape", "Tab"].includes(key)) return; // composing: the keys are the input method's
    event.preventDefault();
    const edited = this.#piece;
    this.#end(key !== "Escape");
    const next = key === "Tab" && this.#text.neighbour(edited, event.shiftKey ? -1 : 1);
    if (next) this.begin(next);
    else this.#text.goTo(this.#text.cursor);
  }

  #end(keep) {
    const [piece, span] = [this.#piece, this.#span];
    this.#piece = this.#span = null; // first: what follows takes the focus from it
    getSelection().removeAllRanges();
    // Drawn anew in any case: browsers leave marks of their own in what they edited.
    if (!keep || !this.#transcript.edit(piece, span.textContent)) this.#text.redraw(piece);
  }
}
