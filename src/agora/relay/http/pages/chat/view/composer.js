/** Where a person writes: Enter sends, Shift and Enter begin a new line. */

import { utf8 } from "../../agora/bytes.js";
import { byId, say } from "../../ui/dom.js";
import * as format from "../../ui/format.js";
import { previewOf } from "../records.js";

/** Bytes that signature, keys and names add to a text, roughly and rather too many. */
const AROUND = 1024;
const PER_RECIPIENT = 200;

export class Composer {
  #form = byId("composer");
  #words = byId("words");
  #model;
  #hands;
  #drafts = new Map();
  #shown = null;

  /** @param {object} hands `cancelReply()`, `lastMessage()`, `failed(error)`. */
  constructor(model, hands) {
    this.#model = model;
    this.#hands = hands;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#words.addEventListener("keydown", (event) => this.#key(event));
    this.#words.addEventListener("input", () => this.#measure());
    byId("no-reply").addEventListener("click", () => {
      hands.cancelReply();
      this.focus();
    });
  }

  focus() {
    this.#words.focus();
  }

  /** Draw what the model says. */
  draw() {
    const { current, replyTo } = this.#model;
    if (current === null) return;
    if (current.id !== this.#shown) this.#change(current);
    const label = current.kind === "everyone" ? "Say something to everyone who is online" : `Message to ${this.#model.titleOf(current)}`;
    this.#words.setAttribute("aria-label", label);
    this.#words.placeholder = current.kind === "everyone" ? "To everyone who is online" : "Message";
    byId("reply").hidden = replyTo === null;
    if (replyTo !== null) say(byId("reply-words"), `${this.#model.nameOf(replyTo.envelope.from)}: ${previewOf(replyTo.envelope)}`);
  }

  #change({ id }) {
    if (this.#shown !== null) this.#drafts.set(this.#shown, this.#words.value);
    this.#shown = id;
    this.#write(this.#drafts.get(id) ?? "");
  }

  #key(event) {
    const isEmpty = this.#words.value === "";
    // While letters are being composed, Enter ends that (IME).
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "ArrowUp" && isEmpty) {
      event.preventDefault();
      this.#hands.lastMessage();
    } else if (event.key === "Escape" && this.#model.replyTo !== null) {
      this.#hands.cancelReply();
    }
  }

  /** Grow with the text, and say when it is too long for the relay. */
  #measure() {
    this.#words.rows = Math.min(8, Math.max(1, this.#words.value.split("\n").length));
    const { current, maxBytes } = this.#model;
    const room = maxBytes - AROUND - PER_RECIPIENT * (current?.members.length ?? 1);
    const size = utf8(JSON.stringify(this.#words.value)).length;
    const wrong = size > room ? `Too long: ${format.bytes(size)}, and the relay takes ${format.bytes(room)} at once.` : "";
    say(byId("words-wrong"), wrong);
    return wrong === "";
  }

  async #send() {
    const text = this.#words.value;
    if (text.trim() === "" || !this.#measure()) return;
    const saying = this.#model.say(text);
    this.#write("");
    try {
      await saying;
    } catch (error) {
      // It is not kept: give it back, before what was written meanwhile.
      this.#write([text, this.#words.value].filter(Boolean).join("\n"));
      this.#hands.failed(error);
    }
  }

  #write(text) {
    this.#words.value = text;
    this.#measure();
  }
}
