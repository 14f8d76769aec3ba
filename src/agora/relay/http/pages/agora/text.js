/**
 * What others wrote, made safe to show.
 *
 * A page shows it as text and never as markup, so it cannot inject anything. What is
 * left are letters that turn a line around, hide between others or overwrite them; they
 * are taken away for the eye, never from what was signed.
 */

// The control characters C0, DEL and C1, except tab, line feed and carriage return.
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/gu;

// What turns text around, or carries it past people: bidi controls, "tag" letters, fillers.
const DECEIVING =
  /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

// What joins letters and picks their form. Scripts and emoji need it; a name does not.
const JOINING = /[\u200c\u200d\ufe00-\ufe0f]/gu;

const LINE_BREAK = /\r\n|[\r\n\u2028\u2029]/gu;

/** Characters of a claimed name that are shown. */
const MAX_NAME = 64;

/** Return text to show in a message. */
export const printable = (text) =>
  text.toWellFormed().replace(CONTROLS, "").replace(DECEIVING, "").replace(LINE_BREAK, "\n");

/** Return text to show on one line, with nothing invisible in it: for names and previews. */
export const printableLine = (text) =>
  printable(text).replace(JOINING, "").replace(/[\n\t ]+/gu, " ").trim();

/** Return a name that somebody claims, ready to show; "" where there is none. */
export function printableName(name) {
  const line = typeof name === "string" ? printableLine(name) : "";
  const characters = [...line];
  return characters.length > MAX_NAME ? `${characters.slice(0, MAX_NAME - 1).join("")}…` : line;
}

/** Return what a payload says in words: its `text`, or itself; null where it is other JSON. */
export function textOf(payload) {
  const said = isObject(payload) && hasOnlyText(payload) ? payload.text : payload;
  return typeof said === "string" ? printable(said) : null;
}

const hasOnlyText = (payload) =>
  typeof payload.text === "string" && Object.keys(payload).length === 1;

/** Return what a payload says besides its `text`; undefined where there is nothing. */
export function restOf(payload) {
  if (textOf(payload) !== null || payload === undefined) return undefined;
  if (!isObject(payload) || typeof payload.text !== "string") return payload;
  const { text, ...rest } = payload;
  return rest;
}

/** Return the words that stand at the head of a payload, "" where it has none. */
export function wordsOf(payload) {
  if (typeof payload === "string") return printable(payload);
  return isObject(payload) && typeof payload.text === "string" ? printable(payload.text) : "";
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
