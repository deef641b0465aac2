// Elements: those that are on the page, and new ones.

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** Change a text only if it differs: a screen reader would read it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** An element with attributes (true: present, null or false: absent) and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A button that says what it does to those who can't see its sign. */
export function button(sign, label, act) {
  const element = make("button", { type: "button", title: label, "aria-label": label }, sign);
  element.addEventListener("click", act);
  return element;
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
