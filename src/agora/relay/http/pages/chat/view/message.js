/** One message, as it is shown: who, what, in answer to what, and what has become of it. */

import { printable, restOf, wordsOf } from "../../agora/text.js";
import { avatar } from "../../ui/avatar.js";
import { el, say } from "../../ui/dom.js";
import * as format from "../../ui/format.js";
import { icon } from "../../ui/icons.js";
import { jsonView } from "../../ui/json.js";
import { refusedRecipients, summaryOf } from "../delivery.js";
import { previewOf } from "../records.js";

/** Types that are plain talk: no word about them. */
const PLAIN = new Set(["publish", "response"]);

/** Milliseconds between two messages of one author that are shown as one block. */
const BLOCK = 5 * 60_000;

/**
 * Make the element of a message.
 *
 * @param {object} message From the store.
 * @param {Model} model What is known.
 * @param {object} hands `reply(message)`, `retry(message)`, `details(message)`, `jump(id)`, `peer(id)`.
 */
export function makeMessage(message, model, hands) {
  const { envelope, mine } = message;
  const text = wordsOf(envelope.payload);
  const rest = restOf(envelope.payload);
  return el(
    "li.message",
    { "data-mine": mine, tabindex: -1 },
    el("div.author", {}, mine ? null : avatarButton(envelope.from, hands), el("span.name"), mine ? null : el("span.key.faint")),
    el(
      "div.bubble",
      {},
      quoteOf(envelope, model, hands),
      PLAIN.has(envelope.type) ? null : el("span.tag", {}, printable(envelope.type).slice(0, 40)),
      text ? el("p.text", { dir: "auto" }, text) : null,
      rest === undefined ? null : jsonView(rest),
      "payload" in envelope ? null : el("p.faint", {}, "No content"),
    ),
    el("div.foot", {}, timeOf(envelope), el("span.fate"), retryButton(message, hands), actions(message, hands)),
  );
}

/** Bring the element of a message up to date. */
export function updateMessage(element, { isFollowing, message }, model) {
  const { envelope, mine } = message;
  element.toggleAttribute("data-following", isFollowing);
  say(element.querySelector(".name"), model.nameOf(envelope.from));
  const key = element.querySelector(".key");
  if (key !== null) {
    const isOurs = model.isContact(envelope.from);
    const isShort = model.nameOf(envelope.from) === format.shortKey(envelope.from);
    say(key, isOurs || isShort ? "" : format.shortKey(envelope.from));
  }
  if (!mine) return;
  const { is, words } = summaryOf(message, model.isLive);
  const fate = element.querySelector(".fate");
  fate.dataset.is = is;
  say(fate, words);
  element.querySelector(".retry").hidden = refusedRecipients(message).length === 0;
}

/** Tell whether a message goes on what the one before it began. */
export const isFollowing = (message, before) =>
  before !== undefined &&
  before.envelope.from === message.envelope.from &&
  message.order - before.order < BLOCK &&
  format.isSameDay(message.order, before.order);

function avatarButton(peer, hands) {
  const label = "About this peer";
  return el("button.avatar-button", { "aria-label": label, onclick: () => hands.peer(peer), type: "button" }, avatar(peer));
}

function quoteOf({ inReplyTo }, model, hands) {
  if (typeof inReplyTo !== "string") return null;
  const answered = model.find(inReplyTo);
  if (answered === undefined) return el("p.quote", {}, "In answer to an earlier message");
  const words = `${model.nameOf(answered.envelope.from)}: ${previewOf(answered.envelope)}`;
  return el("button.quote", { onclick: () => hands.jump(inReplyTo), type: "button" }, el("span.unseen", {}, "In answer to "), words);
}

function timeOf({ timestamp }) {
  if (!format.isShowable(timestamp)) return el("span.time", {}, "at no time that there is");
  return el("time.time.numbers", { datetime: new Date(timestamp).toISOString(), title: format.moment(timestamp) }, format.timeOfDay(timestamp));
}

function retryButton(message, hands) {
  if (!message.mine) return null;
  return el("button.retry", { hidden: true, onclick: () => hands.retry(message.id), type: "button" }, icon("retry"), "Try again");
}

const actions = (message, hands) =>
  el(
    "span.actions",
    {},
    el("button.icon-button", { "aria-label": "Reply", onclick: () => hands.reply(message.id), title: "Reply (R)", type: "button" }, icon("reply")),
    el("button.icon-button", { "aria-label": "Details", onclick: () => hands.details(message.id), title: "Details (I)", type: "button" }, icon("info")),
  );
