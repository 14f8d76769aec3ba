/** Dialogs: a title, a way out, and the focus back where it was (all but the looks is the browser's). */

import { el } from "./dom.js";
import { icon } from "./icons.js";

/**
 * Open a dialog.
 *
 * @param {string} title What it is about.
 * @param {function} build Gets `close` and returns what is in it.
 * @returns {Promise} Fulfilled when it is closed.
 */
export function openDialog(title, build) {
  const close = () => dialog.close();
  const dialog = el(
    "dialog",
    { "aria-labelledby": "dialog-title", onclick: (event) => event.target === dialog && close() },
    el(
      "div.sheet",
      {},
      el(
        "header",
        {},
        el("h2", { id: "dialog-title" }, title),
        el("button.icon-button", { "aria-label": "Close", onclick: close, type: "button" }, icon("close")),
      ),
      ...[build(close)].flat(),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector("[data-first]")?.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
  });
}

/** Ask before something that cannot be undone; tell whether it was wanted. */
export async function confirmed(title, text, verb) {
  let isWanted = false;
  await openDialog(title, (close) => {
    const agree = () => {
      isWanted = true;
      close();
    };
    return [
      el("p", {}, text),
      el(
        "div.buttons",
        {},
        el("button.button", { "data-first": true, onclick: close, type: "button" }, "Cancel"),
        el("button.button.danger", { onclick: agree, type: "button" }, verb),
      ),
    ];
  });
  return isWanted;
}

/** A button that copies a text, and says that it did. */
export function copyButton(label, text) {
  const words = el("span", {}, label);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      words.textContent = "Copied";
    } catch {
      words.textContent = "Could not copy: mark it and copy it by hand";
    }
    setTimeout(() => (words.textContent = label), 2500);
  };
  return el("button.button", { onclick: copy, type: "button" }, icon("copy"), words);
}
