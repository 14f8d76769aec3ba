/** The left side: who we are, how the link stands, the conversations, and who else is online. */

import { avatar } from "../../ui/avatar.js";
import { byId, el, reconcile, say } from "../../ui/dom.js";
import * as format from "../../ui/format.js";
import { icon } from "../../ui/icons.js";

/** Newcomers that are listed; the rest are found by "New message". */
const NEWCOMERS = 50;

export class List {
  #hands;

  /** @param {object} hands `open(conversation)`, `openWith(peers)`. */
  constructor(hands) {
    this.#hands = hands;
  }

  /** Draw what the model says. */
  draw(model) {
    drawSelf(model);
    reconcile(
      byId("conversations"),
      model.listed(),
      ({ id }) => id,
      (conversation) => this.#make(conversation),
      (row, conversation) => update(row, conversation, model),
    );
    this.#drawNewcomers(model);
  }

  #make(conversation) {
    const open = (event) => this.#hands.open(conversation, event.currentTarget);
    return el(
      "li",
      {},
      el(
        "button.row",
        { onclick: open, type: "button" },
        pictureOf(conversation),
        el("span.who", {}, el("span.named", {}, el("span.name"), el("span.key.faint")), el("span.preview.faint")),
        el("span.aside", {}, el("time.faint.numbers"), el("span.badge", { hidden: true })),
      ),
    );
  }

  #drawNewcomers(model) {
    const all = model.newcomers();
    const listed = all.slice(0, NEWCOMERS);
    const make = (peer) => {
      const open = () => this.#hands.openWith([peer]);
      const row = el("button.row", { onclick: open, type: "button" }, picture(peer), el("span.who", {}, el("span.name"), el("span.faint.mono")));
      return el("li", {}, row);
    };
    reconcile(byId("newcomers"), listed, (peer) => peer, make, (row, peer) => {
      say(row.querySelector(".name"), model.nameOf(peer));
      const key = format.shortKey(peer);
      say(row.querySelector(".mono"), model.nameOf(peer) === key ? "" : key);
      row.querySelector(".picture").toggleAttribute("data-online", model.isOnline(peer));
    });
    const rest = all.length - listed.length;
    say(byId("newcomers-rest"), rest > 0 ? `and ${format.count(rest)} more` : "");
    byId("nobody").hidden = model.online.size > 0 || !model.isLive;
    say(byId("newcomers-title"), model.isLive ? "Online now" : "Online when last heard of");
    byId("newcomers-title").hidden = all.length === 0 && byId("nobody").hidden;
  }
}

function update(item, conversation, model) {
  const row = item.firstElementChild;
  const { id, kind, members, order, preview, unread } = conversation;
  const isCurrent = model.current?.id === id;
  row.toggleAttribute("aria-current", isCurrent);
  if (isCurrent) row.setAttribute("aria-current", "true");
  say(row.querySelector(".name"), model.titleOf(conversation));
  say(row.querySelector(".key"), kind === "direct" ? keyBeside(members[0], model) : "");
  say(row.querySelector(".preview"), previewText(conversation, model));
  const time = row.querySelector("time");
  say(time, preview === null ? "" : format.when(order));
  const badge = row.querySelector(".badge");
  badge.hidden = unread === 0;
  say(badge, format.short(unread));
  if (unread > 0) badge.setAttribute("aria-label", `${unread} unread`);
  const isOnline = kind === "direct" && model.isOnline(members[0]);
  row.querySelector(".picture").toggleAttribute("data-online", isOnline);
  say(row.querySelector(".unseen"), isOnline ? "online" : "");
  row.toggleAttribute("data-ignored", kind === "direct" && model.isIgnored(members[0]));
}

/** The end of the key, where the name is only claimed. */
function keyBeside(peer, model) {
  const key = format.shortKey(peer);
  return model.isContact(peer) || model.nameOf(peer) === key ? "" : key;
}

function previewText({ kind, members, preview }, model) {
  if (kind === "direct" && model.isIgnored(members[0])) return "Ignored";
  if (preview === null) return kind === "everyone" ? "Heard by all who are online" : "No message yet";
  const author = preview.from === model.me ? "You: " : kind === "direct" ? "" : `${model.nameOf(preview.from)}: `;
  return author + preview.words;
}

/** The picture of a conversation. */
export function pictureOf({ kind, members }) {
  if (kind === "direct") return picture(members[0]);
  return el("span.picture", {}, el("span.sign", {}, icon(kind === "everyone" ? "everyone" : "group")), el("span.unseen"));
}

const picture = (peer) => el("span.picture", {}, avatar(peer), el("span.unseen"));

/** How the link stands, in few words. */
export function linkWords({ is, until }) {
  if (is === "live") return "Online";
  if (is === "trying") return "Connecting…";
  if (is === "stopped") return "Not connected";
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  return `Relay away, again in ${seconds} s`;
}

function drawSelf(model) {
  say(byId("my-name"), model.name || format.shortKey(model.me));
  const state = byId("link");
  state.dataset.is = { live: "live", stopped: "away" }[model.link.is] ?? "trying";
  say(state, linkWords(model.link));
  byId("try-now").hidden = model.link.is !== "away";
}
