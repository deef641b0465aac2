// The keyboard, and the list that tells of it.

import { make } from "../dom.js";

const HELP = {
  Anywhere: [
    ["Space, K", "play, pause"],
    ["← →, J L", "5 seconds back, forward"],
    ["< >", "slower, faster"],
    ["/", "search: Enter for the next match, Esc to close"],
    ["U, Shift+U", "next, previous uncertain word"],
    ["Ctrl+Z, Ctrl+Y", "undo, redo an edit"],
  ],
  "In the text": [
    ["← →", "word by word"],
    ["↑ ↓", "line by line"],
    ["Enter, click", "play from this word"],
    ["F2, double-click", "edit: Enter saves, Esc cancels, Tab edits the next word"],
  ],
};

export function help() {
  const row = ([keys, does]) => make("div", {}, make("dt", {}, keys), make("dd", {}, does));
  const lists = Object.entries(HELP).map(([where, rows]) =>
    make("div", {}, make("p", {}, where), make("dl", {}, ...rows.map(row))),
  );
  const keys = make("div", { class: "reading-keys" }, ...lists);
  return make("details", { class: "reading-help" }, make("summary", {}, "Keyboard shortcuts"), keys);
}

const TYPING = "input, select, textarea, [contenteditable]";
const PRESSED = "button, a, summary"; // space and Enter are theirs

/** Calls `actions[name]` for the keys pressed in `root`, or nowhere in particular if `root` was used last. */
export function listen(root, actions, signal) {
  const mine = (target) => (target === document.body ? root.checkVisibility() && wasUsedLast(root) : root.contains(target));
  const press = (event) => {
    const { target } = event;
    if (event.defaultPrevented || event.altKey || event.isComposing) return;
    if (!mine(target) || target.closest?.(TYPING)) return;
    if (event.key === " " && target.closest?.(PRESSED)) return;
    const act = actions[nameOf(event)];
    if (!act) return;
    event.preventDefault();
    act();
  };
  document.addEventListener("keydown", press, { signal });
  for (const type of ["focusin", "pointerdown"]) root.addEventListener(type, () => useLast(root), { signal });
}

function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shift = event.shiftKey && /^\p{L}$/u.test(key) ? "Shift+" : ""; // part of signs: "<" needs it in some layouts
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + shift + key;
}

// Which of several is kept in the page itself: they need not know of each other.
function useLast(root) {
  for (const other of document.querySelectorAll(".reading")) other.toggleAttribute("data-used-last", other === root);
}

function wasUsedLast(root) {
  return root.hasAttribute("data-used-last") || document.querySelectorAll(".reading").length === 1;
}
