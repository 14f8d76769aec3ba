/** JSON as people read it: indented, in colours, with nothing invisible in it. */

import { el } from "./dom.js";

// A string with what makes it a name, or any other literal.
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d[\d.eE+-]*/gu;

const DECEIVING =
  /[\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

/** Characters that are shown; of a longer text the rest is left out, with a word. */
const MOST = 20_000;

/** Lines beyond which it is folded away behind a summary. */
const FOLDED = 14;

/** Return an element that shows a JSON value. */
export function jsonView(value) {
  const text = escaped(JSON.stringify(value, null, 2));
  const shown = text.length > MOST ? `${text.slice(0, MOST)}\n…` : text;
  const code = el("pre.json", { tabindex: 0 }, ...coloured(shown));
  const lines = text.split("\n").length;
  if (lines <= FOLDED) return code;
  const left = text.length > MOST ? ", the first 20,000 characters of it" : "";
  return el("details.json-fold", {}, el("summary", {}, `JSON, ${lines} lines${left}`), code);
}

/** Write what does not show as the escape that means the same. */
const escaped = (text) =>
  text.replace(DECEIVING, (found) =>
    Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`).join(""),
  );

function coloured(text) {
  const parts = [];
  let end = 0;
  for (const { 0: token, 1: string, 2: colon, index } of text.matchAll(TOKEN)) {
    if (index > end) parts.push(text.slice(end, index));
    if (string === undefined) parts.push(el("span.literal", {}, token));
    else parts.push(el(colon === undefined ? "span.string" : "span.name", {}, string), colon ?? "");
    end = index + token.length;
  }
  parts.push(text.slice(end));
  return parts;
}
