/** Puts the parts of the page together, and carries what a person does to the model. */

import { byId, el, say } from "../../ui/dom.js";
import * as format from "../../ui/format.js";
import { copyButton } from "../../ui/dialog.js";
import { avatar } from "../../ui/avatar.js";
import { Model } from "../model.js";
import { Composer } from "./composer.js";
import * as dialogs from "./dialogs.js";
import { List, linkWords, pictureOf } from "./list.js";
import { Log } from "./log.js";

const TITLE = "Agora chat";

export class Screen {
  #model;
  #hands;
  #isDrawing = false;
  #list;
  #log;
  #composer;
  #pictured = null;

  /**
   * @param {object} parts As for `Model`.
   * @param {object} hands `erase()` and `lock(name)`.
   */
  constructor(parts, hands) {
    this.#hands = hands;
    const model = new Model(parts, () => this.#draw());
    this.#model = model;
    this.#list = new List({
      open: (conversation) => this.#open(conversation),
      openWith: (peers) => this.#openWith(peers),
    });
    this.#log = new Log({
      details: (id) => dialogs.message(model, model.find(id)),
      earlier: () => model.readEarlier(),
      peer: (id) => this.#peer(id),
      reply: (id) => this.#reply(model.find(id)),
      retry: (id) => model.retry(model.find(id)),
    });
    this.#composer = new Composer(model, {
      cancelReply: () => this.#reply(null),
      failed: (error) => this.#failed(error),
      lastMessage: () => this.#log.focus(),
    });
    this.#wire();
  }

  /** Read what is kept and show it. */
  async begin() {
    byId("my-picture").append(avatar(this.#model.me));
    byId("own-id").textContent = this.#model.me;
    byId("own-id-copy").append(copyButton("Copy your peer id", this.#model.me));
    await this.#model.load();
    // Seconds are counted down while the relay is away.
    setInterval(() => this.#model.link.is === "away" && this.#draw(), 1000);
  }

  #wire() {
    const model = this.#model;
    const on = (id, act) => byId(id).addEventListener("click", act);
    on("me", () => dialogs.self(model, { erase: this.#hands.erase, lock: () => this.#lock() }));
    on("new", () => dialogs.newMessage(model, (peers) => this.#openWith(peers)));
    on("new-first", () => dialogs.newMessage(model, (peers) => this.#openWith(peers)));
    on("try-now", () => model.poke());
    on("back", () => this.#close());
    on("about", () => dialogs.conversation(model, model.current, { openWith: (peers) => this.#openWith(peers) }));
    on("save-key", () => dialogs.self(model, { erase: this.#hands.erase, lock: () => this.#lock() }));
    on("later", () => (byId("unsaved").dataset.later = ""));
    on("later", () => this.#draw());
    on("forged-seen", () => {
      model.forged = 0;
      this.#draw();
    });
    addEventListener("focus", () => model.markRead());
    document.addEventListener("visibilitychange", () => model.markRead());
    addEventListener("popstate", ({ state }) => state?.conversation || model.current === null || model.open(null));
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    if (event.key === "Escape" && !document.querySelector("dialog[open]") && isNarrow() && this.#model.current) this.#close();
    if (!event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    const listed = this.#model.listed();
    const at = listed.findIndex(({ id }) => id === this.#model.current?.id);
    const next = listed[at + (event.key === "ArrowDown" ? 1 : -1)];
    if (next !== undefined) this.#open(next);
  }

  // What a person does

  async #open(conversation) {
    // On a phone, the way back is the browser's own.
    if (isNarrow() && this.#model.current === null) history.pushState({ conversation: true }, "");
    await this.#model.open(conversation);
    this.#drawNow();
    this.#log.toEnd();
    this.#composer.focus();
  }

  async #openWith(peers) {
    await this.#model.openWith(peers);
    await this.#open(this.#model.current);
  }

  #close() {
    const row = document.querySelector("#conversations [aria-current]");
    if (history.state?.conversation) history.back();
    else this.#model.open(null);
    row?.focus();
  }

  #peer(id) {
    return dialogs.peer(this.#model, id, { openWith: (peers) => this.#openWith(peers) });
  }

  #reply(message) {
    this.#model.replyTo = message;
    this.#drawNow();
    if (message !== null) this.#composer.focus();
  }

  async #lock() {
    await this.#hands.lock(this.#model.name);
    this.#draw();
  }

  #failed(error) {
    const isFull = error.name === "QuotaExceededError";
    say(byId("words-wrong"), isFull ? "This browser has no room left: delete a conversation." : `Not sent: ${error.message}`);
  }

  // Drawing

  #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    queueMicrotask(() => this.#drawNow());
  }

  #drawNow() {
    this.#isDrawing = false;
    const model = this.#model;
    this.#list.draw(model);
    const hasCurrent = model.current !== null;
    byId("app").dataset.pane = hasCurrent ? "talk" : "list";
    byId("talk").hidden = !hasCurrent;
    byId("nothing").hidden = hasCurrent;
    if (hasCurrent) {
      this.#drawHead();
      this.#composer.draw();
      this.#log.draw(model);
    }
    this.#drawNotes();
    say(byId("announce"), model.announcement);
    const { unread } = model;
    document.title = unread > 0 ? `(${unread}) ${TITLE}` : TITLE;
  }

  #drawHead() {
    const model = this.#model;
    const { current } = model;
    if (this.#pictured !== current.id) byId("picture").replaceChildren(pictureOf(current));
    this.#pictured = current.id;
    byId("picture").firstElementChild.toggleAttribute("data-online", current.kind === "direct" && model.isOnline(current.members[0]));
    say(byId("title"), model.titleOf(current));
    say(byId("subtitle"), subtitleOf(current, model));
    say(byId("silence"), silenceOf(current, model));
    byId("ignored-note").hidden = !(current.kind === "direct" && model.isIgnored(current.members[0]));
  }

  #drawNotes() {
    const { forged, keys, link } = this.#model;
    byId("unsaved").hidden = !keys.isOpen || "later" in byId("unsaved").dataset;
    byId("forged").hidden = forged === 0;
    say(byId("forged-words"), `${format.plural(forged, "message")} could not be shown: the signature does not fit.`);
    drawProblem(link, this.#model);
  }
}

const isNarrow = () => matchMedia("(max-width: 48rem)").matches;

function subtitleOf({ kind, members }, model) {
  const away = model.isLive ? "" : linkWords(model.link);
  if (kind === "everyone") return away || `${format.plural(model.online.size, "other peer")} online`;
  if (kind === "group") {
    const online = format.count(members.filter((peer) => model.isOnline(peer)).length);
    return `You and ${members.length} others${away ? ` · ${away}` : `, ${online} online`}`;
  }
  const [peer] = members;
  const name = model.nameOf(peer);
  const key = name === format.shortKey(peer) ? "" : `${format.shortKey(peer)} · `;
  return key + (away || (model.isOnline(peer) ? "online" : "not online"));
}

function silenceOf({ kind, members }, model) {
  if (kind === "everyone") return "Nothing was said to everyone while you were here. What you say goes to whoever is online now, and to nobody later.";
  if (kind === "group") return "No message yet. The first one makes the group: everybody in it sees who else is.";
  if (!model.isLive || model.isOnline(members[0])) return "No message yet. Messages are signed with your key.";
  return "No message yet. They are not online now: if they have been at this relay before, it keeps your message for them.";
}

/** Say what only a person can solve. */
function drawProblem(link, model) {
  const words = problemWords(link);
  const place = byId("problem");
  place.hidden = words === null;
  if (words === null || place.dataset.words === words) return;
  place.dataset.words = words;
  const isChanged = link.problem.name === "RelayChanged" && link.problem.found;
  const act = isChanged ? () => model.trustRelay() : () => model.poke();
  const label = isChanged ? "Trust the new key" : "Try again";
  place.replaceChildren(el("p", {}, words), el("button.button", { onclick: act, type: "button" }, label));
}

function problemWords({ is, problem }) {
  if (problem?.name === "QuotaExceededError") return "This browser has no room left, so new messages stay at the relay. Delete a conversation, then try again.";
  if (is !== "stopped") return null;
  if (problem.name === "RelayChanged") {
    if (!problem.found) return "What answers here could not prove that it is the relay. Nothing was signed for it.";
    return `The relay has another key (${format.shortKey(problem.found)}) than the one known here (${format.shortKey(problem.known)}). Somebody may stand in between. Trust it only if its operator says that the key has changed.`;
  }
  if (problem.code === "proof_failed") {
    return `The relay does not know itself by this address, ${location.host}. Whoever runs it can add it: agora relay --public-name ${location.host}`;
  }
  return `The relay does not let you in: ${problem.message}`;
}
