/**
 * The messages of a conversation: one stop of the Tab key, with arrows from message to message.
 *
 * It stays at the end while the reader is there, and where it is while the reader is elsewhere.
 */

import { byId, el, reconcile } from "../../ui/dom.js";
import * as format from "../../ui/format.js";
import { isFollowing, makeMessage, updateMessage } from "./message.js";

/** Pixels from the end that still count as being there. */
const NEAR = 80;

export class Log {
  #hands;
  #list = byId("messages");
  #scroller = byId("log");
  #shown = null;
  #last = null;

  /** @param {object} hands As for `makeMessage`, and `earlier()`. */
  constructor(hands) {
    this.#hands = { ...hands, jump: (id) => this.focus(id) };
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#scroller.addEventListener("scroll", () => this.#atEnd() && (byId("newest").hidden = true));
    byId("newest").addEventListener("click", () => this.toEnd());
    byId("earlier").addEventListener("click", () => this.#earlier());
  }

  /** Draw what the model says. */
  draw(model) {
    const id = model.current?.id ?? null;
    const isNew = id !== this.#shown;
    const wasAtEnd = isNew || this.#atEnd();
    this.#shown = id;
    const items = itemsOf(model.messages);
    reconcile(
      this.#list,
      items,
      ({ key }) => key,
      (item) => (item.day === undefined ? makeMessage(item.message, model, this.#hands) : el("li.day", {}, el("span", {}, item.day))),
      (element, item) => item.day === undefined && updateMessage(element, item, model),
    );
    byId("earlier").hidden = !model.hasEarlier;
    byId("silence").hidden = items.length > 0;
    this.#rove();
    const last = model.messages.at(-1);
    if (wasAtEnd || (last?.mine && last.id !== this.#last)) this.toEnd();
    else if (last !== undefined && last.id !== this.#last) byId("newest").hidden = false;
    this.#last = last?.id ?? null;
  }

  /** Go to the end. */
  toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    byId("newest").hidden = true;
  }

  /** Put the focus on a message, the last one where none is named. */
  focus(id) {
    const found = id === undefined ? this.#messages().at(-1) : this.#messages().find(({ dataset }) => dataset.key === id);
    found?.focus();
    found?.scrollIntoView({ block: "nearest" });
  }

  async #earlier() {
    const height = this.#scroller.scrollHeight;
    await this.#hands.earlier();
    // What was being read stays where it was.
    this.#scroller.scrollTop += this.#scroller.scrollHeight - height;
  }

  #atEnd() {
    const { clientHeight, scrollHeight, scrollTop } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #messages() {
    return [...this.#list.querySelectorAll(".message")];
  }

  /** Let Tab stop at one message: the one that had the focus last, else the last one. */
  #rove() {
    const messages = this.#messages();
    const stop = messages.find((message) => message.contains(document.activeElement)) ?? messages.at(-1);
    for (const message of messages) message.tabIndex = message === stop ? 0 : -1;
  }

  #key(event) {
    const messages = this.#messages();
    const at = messages.findIndex((message) => message.contains(event.target));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = { ArrowDown: at + 1, ArrowUp: at - 1, End: messages.length - 1, Home: 0 }[event.key];
    const { key } = messages[at].dataset;
    if (messages[target] !== undefined) messages[target].focus();
    else if (event.key === "r" || event.key === "R") this.#hands.reply(key);
    else if (event.key === "i" || event.key === "I") this.#hands.details(key);
    else if (event.key === "Escape" || target === messages.length) byId("words").focus();
    else return;
    event.preventDefault();
    this.#rove();
  }
}

/** Return messages with the days that they are of between them. */
function itemsOf(messages) {
  const items = [];
  for (const [index, message] of messages.entries()) {
    const before = messages[index - 1];
    if (before === undefined || !format.isSameDay(before.order, message.order)) {
      items.push({ day: format.dayOf(message.order), key: `day ${new Date(message.order).toDateString()}` });
    }
    items.push({ isFollowing: isFollowing(message, before), key: message.id, message });
  }
  return items;
}
