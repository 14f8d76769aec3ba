/**
 * What one tab shows, and what a person can do: read from the store, told by the wire.
 *
 * Views ask it and draw; nothing they draw is kept anywhere else. It knows no element.
 */

import { EVERYONE, seal } from "../agora/envelope.js";
import { isPeerId } from "../agora/keys.js";
import { printableName } from "../agora/text.js";
import { shortKey } from "../ui/format.js";
import { again, needsNewTime, openFates, summaryOf } from "./delivery.js";
import {
  EVERYONE_ID,
  conversationWith,
  everyone,
  nextOrder,
  nextTimestamp,
  previewOf,
  withMessage,
} from "./records.js";
import { wholeOf } from "./store.js";

/** Messages that are read at once, and that are shown at most: the earlier ones can be read again. */
const PAGE = 60;
const MOST_SHOWN = 1000;

export class Model {
  #store;
  #wire;
  #changed;
  #saying = Promise.resolve();

  /**
   * @param {object} parts
   * @param {KeyPair} parts.keys Who we are.
   * @param {string} parts.name What we call ourselves; "" for nothing.
   * @param {Store} parts.store What this browser keeps.
   * @param {Wire} parts.wire The other tabs, and whoever leads.
   * @param {function} changed Called when something is to be drawn anew.
   */
  constructor({ keys, name, store, wire }, changed) {
    this.keys = keys;
    this.name = name;
    this.conversations = new Map();
    this.peers = new Map();
    this.online = new Map();
    this.link = { is: "trying" };
    this.relay = null;
    this.current = null;
    this.messages = [];
    this.hasEarlier = false;
    this.replyTo = null;
    this.forged = 0;
    this.announcement = "";
    this.#store = store;
    this.#wire = wire;
    this.#changed = changed;
  }

  get me() {
    return this.keys.peerId;
  }

  get isLive() {
    return this.link.is === "live";
  }

  /** Whether a peer is online now: of whoever was when the relay went away, nobody knows. */
  isOnline(peer) {
    return this.isLive && this.online.has(peer);
  }

  /** Read what is kept, and listen from now on. */
  async load() {
    const [conversations, peers] = await Promise.all([this.#store.all("conversations"), this.#store.all("peers")]);
    this.conversations = new Map(conversations.map((one) => [one.id, one]));
    this.peers = new Map(peers.map((one) => [one.id, one]));
    this.#wire.listen(this);
    this.#wire.tell({ kind: "hello" });
    this.#changed();
  }

  // People

  /** What we call a peer: our own name for it, else the one that it claims, else its short key. */
  nameOf(peer) {
    if (peer === this.me) return "You";
    return this.peers.get(peer)?.name || this.claimOf(peer) || (peer === this.relay ? "The relay" : shortKey(peer));
  }

  /** What a peer calls itself, "" where it does not. */
  claimOf(peer) {
    return printableName(this.online.get(peer) ?? this.peers.get(peer)?.claimed ?? "");
  }

  /** Whether the name that is shown is one that we gave. */
  isContact(peer) {
    return Boolean(this.peers.get(peer)?.name);
  }

  isIgnored(peer) {
    return Boolean(this.peers.get(peer)?.ignored);
  }

  /** Everyone who can be written to: online first, then contacts and those who wrote. */
  reachable() {
    const known = new Set([...this.online.keys(), ...this.peers.keys()]);
    known.delete(this.me);
    const rank = (peer) => (this.online.has(peer) ? 0 : 1);
    return [...known].sort((one, other) => rank(one) - rank(other) || this.nameOf(one).localeCompare(this.nameOf(other)));
  }

  /** Return the peers that a reference means: a whole id, a name, or a short key. */
  matching(reference) {
    const token = reference.trim();
    if (isPeerId(token)) return [token];
    const [, name, suffix] = /^(.*)@([0-9a-f]{8})$/i.exec(token) ?? [null, token, null];
    return this.reachable().filter(
      (peer) => (suffix === null || peer.endsWith(suffix.toLowerCase())) && (name === "" || this.nameOf(peer) === name),
    );
  }

  /** Call a peer by this name from now on; "" for none of ours. */
  rename(peer, name) {
    return this.#changePeer(peer, { name: name.trim() });
  }

  /** Hear a peer no more, or again. */
  ignore(peer, ignored) {
    return this.#changePeer(peer, { ignored });
  }

  async #changePeer(id, change) {
    await this.#store.write(async ({ get, put }) => put("peers", { ...(await get("peers", id)), id, ...change }));
    this.#wire.tell({ id, kind: "peer" });
  }

  // Conversations

  /** What a conversation is called. */
  titleOf({ kind, members }) {
    if (kind === "everyone") return "Everyone";
    return members
      .map((peer) => this.nameOf(peer))
      .sort((one, other) => one.localeCompare(other))
      .join(", ");
  }

  /** All conversations, the latest first, and the one with everyone before them. */
  listed() {
    const others = [...this.conversations.values()].filter(({ id }) => id !== EVERYONE_ID);
    others.sort((one, other) => other.order - one.order);
    return [this.conversations.get(EVERYONE_ID) ?? everyone(), ...others];
  }

  /** Those online with whom there is no conversation yet. */
  newcomers() {
    return this.reachable().filter((peer) => this.online.has(peer) && !this.conversations.has(peer) && !this.isIgnored(peer));
  }

  get unread() {
    return [...this.conversations.values()].reduce((sum, { unread }) => sum + unread, 0);
  }

  /** Show the conversation with these peers; it is kept from the first message on. */
  openWith(peers) {
    return this.open(conversationWith(peers));
  }

  /** Show a conversation, or none. */
  async open(conversation) {
    this.current = conversation && (this.conversations.get(conversation.id) ?? conversation);
    this.replyTo = null;
    this.messages = [];
    this.hasEarlier = false;
    if (this.current !== null) await this.#read(Infinity);
    await this.markRead();
    this.#changed();
  }

  /** Read the messages before those that are shown. */
  async readEarlier() {
    await this.#read(this.messages[0]?.order ?? Infinity);
    this.#changed();
  }

  async #read(before) {
    const { id } = this.current;
    const found = await this.#store.page(id, PAGE, before);
    if (this.current?.id !== id) return; // another one was opened meanwhile
    this.messages = [...found, ...this.messages.filter(({ order }) => order >= before)];
    this.hasEarlier = found.length === PAGE;
  }

  /** Note that what is shown has been seen, if there is somebody to see it. */
  async markRead() {
    const id = this.current?.id;
    const isSeen = !document.hidden && document.hasFocus();
    if (id === undefined || !isSeen || !this.conversations.get(id)?.unread) return;
    await this.#store.write(async ({ get, put }) => put("conversations", { ...(await get("conversations", id)), unread: 0 }));
    this.#wire.tell({ id, kind: "conversation" });
  }

  /** Remove a conversation and its messages from this browser. */
  async forget({ id }) {
    await this.#store.write(async ({ remove, removeAll }) => {
      await removeAll("messages", "conversation", wholeOf(id));
      await remove("conversations", id);
    });
    this.#wire.tell({ id, kind: "conversation" });
    if (this.current?.id === id) await this.open(null);
  }

  // Messages

  /** Bytes that an envelope may have, as the relay said. */
  get maxBytes() {
    return this.limits?.maxFrameBytes ?? 262_144;
  }

  /** Say something in the conversation that is shown, behind what was said before. */
  say(text) {
    const { current, replyTo } = this;
    const answers = replyTo === null ? {} : { inReplyTo: replyTo.id };
    const type = replyTo !== null && replyTo.envelope.type === "request" ? "response" : "publish";
    this.replyTo = null;
    this.#changed();
    const put = () => this.#put(current, { payload: { text }, type, ...answers });
    // One after the other, whatever became of the last: what is stored first is sent first.
    const saying = this.#saying.then(put);
    this.#saying = saying.catch(() => {});
    return saying;
  }

  async #put(conversation, said, place = {}) {
    const to = conversation.kind === "everyone" ? [EVERYONE] : conversation.members;
    const envelope = await seal(this.keys, { ...said, timestamp: nextTimestamp(), to });
    const order = place.order ?? nextOrder();
    const message = { conversation: conversation.id, envelope, fates: openFates(to), id: envelope.id, mine: true, order, unsent: order };
    await this.#store.write(async ({ get, put, remove }) => {
      if (place.id !== undefined) await remove("messages", place.id);
      await put("messages", message);
      const before = (await get("conversations", conversation.id)) ?? conversation;
      await put("conversations", place.id === undefined ? withMessage(before, message) : before);
    });
    this.#wire.tell({ ids: [message.id], kind: "arrived", replaces: place.id });
    this.#wire.tell({ kind: "outbox" });
  }

  /** Send a message again to whoever did not get it. */
  async retry(message) {
    const { inReplyTo, payload, type } = message.envelope;
    if (needsNewTime(message)) {
      // Its time was refused, and is signed: so it becomes a new message, in the same place.
      const conversation = this.conversations.get(message.conversation);
      const said = { payload, type, ...(inReplyTo === undefined ? {} : { inReplyTo }) };
      await this.#put(conversation, said, message);
      return;
    }
    await this.#store.write(async ({ get, put }) => put("messages", again(await get("messages", message.id))));
    this.#wire.tell({ conversation: message.conversation, id: message.id, kind: "message" });
    this.#wire.tell({ kind: "outbox" });
  }

  /** Return a message that is kept here; undefined where it is not. */
  find(id) {
    return this.messages.find((message) => message.id === id);
  }

  // Ourselves

  /** Call ourselves by another name. */
  async changeName(name) {
    await this.#store.write(async ({ get, put }) => put("self", { ...(await get("self", "identity")), name }, "identity"));
    this.#wire.tell({ kind: "identity" });
    this.#wire.tell({ kind: "renew" });
  }

  /** Use the relay although its key is another now. */
  async trustRelay() {
    await this.#store.write(({ remove }) => remove("self", "relay"));
    this.#wire.tell({ kind: "renew" });
  }

  poke() {
    this.#wire.tell({ kind: "poke" });
  }

  // From the wire

  onlink({ relay, state }) {
    this.link = state;
    this.relay = relay;
    this.#changed();
    if (state.is === "live") this.#readLimits();
  }

  async #readLimits() {
    this.limits = (await this.#store.get("self", "session"))?.limits;
  }

  ononline({ peers }) {
    this.online = new Map(peers);
    this.online.delete(this.me);
    this.#changed();
  }

  async onarrived({ ids, replaces }) {
    const messages = (await Promise.all(ids.map((id) => this.#store.get("messages", id)))).filter(Boolean);
    await Promise.all([...new Set(messages.map(({ conversation }) => conversation))].map((id) => this.#readConversation(id)));
    for (const message of messages) this.#show(message, replaces);
    const senders = new Set(messages.filter(({ mine }) => !mine).map(({ envelope }) => envelope.from));
    await Promise.all([...senders].map((id) => this.onpeer({ id })));
    await this.markRead();
    this.#changed();
  }

  #show(message, replaces) {
    if (message.conversation === this.current?.id) {
      const rest = this.messages.filter(({ id }) => id !== message.id && id !== replaces);
      this.messages = [...rest, message].sort((one, other) => one.order - other.order);
      this.hasEarlier ||= this.messages.length > MOST_SHOWN;
      this.messages = this.messages.slice(-MOST_SHOWN);
    }
    if (message.mine) return;
    const { words } = this.conversations.get(message.conversation)?.preview ?? { words: "" };
    const place = message.conversation === this.current?.id ? "" : "New message from ";
    this.announcement = `${place}${this.nameOf(message.envelope.from)}: ${words}`;
  }

  async onmessage({ id }) {
    const message = await this.#store.get("messages", id);
    if (message === undefined || message.conversation !== this.current?.id) return;
    this.messages = this.messages.map((before) => (before.id === id ? message : before));
    const { is, words } = summaryOf(message, this.isLive);
    if (is === "bad") this.announcement = `${words}. Your message was: ${previewOf(message.envelope)}`;
    this.#changed();
  }

  async onconversation({ id }) {
    await this.#readConversation(id);
    this.#changed();
  }

  async #readConversation(id) {
    const found = await this.#store.get("conversations", id);
    if (found === undefined) this.conversations.delete(id);
    else this.conversations.set(id, found);
    if (this.current?.id === id && found !== undefined) this.current = found;
  }

  async onpeer({ id }) {
    const found = await this.#store.get("peers", id);
    if (found !== undefined) this.peers.set(id, found);
    this.#changed();
  }

  async onidentity() {
    const { handle, name } = await this.#store.get("self", "identity");
    this.keys.adopt(handle);
    this.name = name;
    this.#changed();
  }

  /** Everything was erased in another tab: begin anew. */
  onerased() {
    location.reload();
  }

  onforged() {
    this.forged += 1;
    this.#changed();
  }
}
