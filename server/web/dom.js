// What is on the page already.

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** Change a text only if it differs: a screen reader would read it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
