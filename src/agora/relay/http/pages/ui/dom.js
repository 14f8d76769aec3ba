/**
 * Elements without markup: names, attributes and text go in as values, and stay values.
 *
 * There is no way from a string to markup in these pages: nothing here parses any, and the
 * content security policy (trusted types) would not let it.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 *
 * @param {string} tag Its name, with classes behind dots: `"p.note.bad"`.
 * @param {object} [props] Attributes; `onclick` and the like are listeners; `undefined`, `null`
 *   and `false` leave the attribute out, `true` sets it empty.
 * @param {...(Node|string|null|undefined)} children Text stays text.
 */
export const el = (tag, props = {}, ...children) =>
  fill(document.createElement(tag.split(".")[0]), tag, props, children);

/** Make an element of SVG, as {@link el} does. */
export const svg = (tag, props = {}, ...children) =>
  fill(document.createElementNS(SVG, tag.split(".")[0]), tag, props, children);

function fill(element, tag, props, children) {
  const classes = tag.split(".").slice(1);
  if (classes.length > 0) element.setAttribute("class", classes.join(" "));
  set(element, props);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set attributes and listeners of an element, as {@link el} takes them. */
export function set(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === undefined || value === null || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

/** Write *text* into an element, unless it stands there: what did not change is not announced. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return the element with this id; it is in the page. */
export const byId = (id) => document.getElementById(id);

/**
 * Make *parent*'s children those of *items*, in order, touching only what changed.
 *
 * An element that stays keeps its focus and its place under the pointer.
 *
 * @param {Element} parent All of its children belong to this list.
 * @param {Array} items What is to be shown.
 * @param {(item) => string} keyOf Names an item; no two have the same name.
 * @param {(item) => Element} make Makes the element of an item that is new.
 * @param {(element, item) => void} update Brings an element up to date, new ones too.
 */
export function reconcile(parent, items, keyOf, make, update) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = there.get(key);
    there.delete(key);
    if (element === undefined) {
      element = make(item);
      element.dataset.key = key;
    }
    update(element, item);
    if (element === before) before = before.nextElementSibling;
    else parent.insertBefore(element, before);
  }
  for (const gone of there.values()) gone.remove();
}
