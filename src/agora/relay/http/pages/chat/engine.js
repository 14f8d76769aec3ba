/**
 * What one tab does for all: holds the connection, sends what is on its way, takes in what comes.
 *
 * It knows no page. What changed is told to every tab over the wire, and all of them read it from
 * the store.
 */

import { seal } from "../agora/envelope.js";
import { Intake } from "./intake.js";
import { Link } from "./link.js";
import { Outbox } from "./outbox.js";

/** Acknowledgements in as many milliseconds: a flood of questions must not become one of answers. */
const ACKNOWLEDGEMENTS = 100;
const ACKNOWLEDGEMENT_WINDOW = 10_000;

/** Ids that one request tells the relay. */
const IDS_AT_ONCE = 100;

export class Engine {
  #store;
  #keys;
  #wire;
  #link;
  #outbox;
  #intake;
  #online = new Map();
  #isPresenceOld = true;
  #state = { is: "trying" };
  #relay = null;
  #acknowledged = [];

  constructor({ keys, store, wire }) {
    this.#store = store;
    this.#keys = keys;
    this.#wire = wire;
    this.#link = new Link(keys, {
      heard: (events) => this.#heard(events),
      opened: () => this.#opened(),
      registered: (answer) => this.#registered(answer),
      registration: () => this.#registration(),
      state: (state) => this.#tellState(state),
    });
    const changed = ({ conversation, id }) => wire.tell({ conversation, id, kind: "message" });
    this.#outbox = new Outbox(store, this.#link, changed);
    this.#intake = new Intake(store, keys.peerId, {
      acknowledge: (envelope) => this.#acknowledge(envelope),
      arrived: (messages) => wire.tell({ ids: messages.map(({ id }) => id), kind: "arrived" }),
      changed,
      refused: (error) => wire.tell({ kind: "forged", reason: error.reason }),
      relay: () => this.#relay,
    });
  }

  /** Work until *signal* ends it. */
  async run(signal) {
    this.#wire.listen(this, signal);
    // What the browser knows of the network is worth an attempt.
    addEventListener("online", () => this.#link.poke(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#link.poke(), { signal });
    this.#tellState(this.#state);
    await this.#link.run(signal);
  }

  // From other tabs, and from this one

  /** Another tab has something on its way. */
  onoutbox() {
    this.#outbox.pump();
  }

  /** Somebody wants the relay to be tried now. */
  onpoke() {
    this.#link.poke();
  }

  /** The name has changed, or the relay's new key was accepted. */
  onrenew() {
    this.#link.renew();
  }

  /** The person is gone from this browser: no need to be thought online for a while. */
  onleave() {
    this.#link.session?.disconnect().catch(() => {});
  }

  /** A tab has opened: it wants to know how it stands. */
  onhello() {
    this.#tellState(this.#state);
    this.#tellOnline();
  }

  // The connection

  async #registration() {
    const [identity, known, kept] = await Promise.all([
      this.#store.get("self", "identity"),
      this.#store.get("self", "relay"),
      this.#store.get("self", "session"),
    ]);
    this.#relay = known ?? null;
    return { kept: kept?.peerId === this.#keys.peerId ? kept : null, known, name: identity?.name };
  }

  async #registered(answer) {
    if (answer === null) {
      await this.#store.write(({ remove }) => remove("self", "session"));
      return;
    }
    const { expiresAt, limits, relay, token } = answer;
    this.#relay = relay;
    await this.#store.write(async ({ put }) => {
      // As with SSH: the key of the first time is the one that counts.
      await put("self", relay, "relay");
      await put("self", { expiresAt, limits, peerId: this.#keys.peerId, relay, token }, "session");
    });
  }

  #opened() {
    this.#isPresenceOld = true;
    this.#outbox.opened();
  }

  async #heard(events) {
    const messages = events.filter(({ event }) => event === "message");
    if (messages.length > 0) await this.#take(messages.map(({ data }) => JSON.parse(data)));
    for (const { data, event } of events) {
      if (event === "receipt" || event === "error") await this.#outbox.heard(JSON.parse(data));
    }
    const presence = events.filter(({ event }) => event === "presence");
    presence.forEach(({ data }) => this.#changeOnline(JSON.parse(data)));
    if (presence.length > 0) this.#tellOnline();
  }

  async #take(frames) {
    const { session } = this.#link;
    const { ack, delayMs, nack } = await this.#intake.take(frames);
    // Not waited for: an ack that is lost is made good when the message comes again.
    const say = (promise) => promise.catch(() => {});
    for (const ids of batches(ack)) say(session.ack(ids));
    for (const ids of batches(nack)) say(session.nack(ids, delayMs));
  }

  /** Take changes; the first ones of a stream are all there is to know. */
  #changeOnline({ offline = [], online = [] }) {
    if (this.#isPresenceOld) this.#online = new Map();
    this.#isPresenceOld = false;
    for (const { name, publicKey } of online) this.#online.set(publicKey, name ?? null);
    for (const peer of offline) this.#online.delete(peer);
  }

  #tellOnline() {
    this.#wire.tell({ kind: "online", peers: [...this.#online] });
  }

  #tellState(state) {
    this.#state = state;
    this.#wire.tell({ kind: "link", relay: this.#relay, state });
  }

  /** Say to a sender who asked for it, signed by us, that the message is here. */
  async #acknowledge({ from, id }) {
    const now = Date.now();
    this.#acknowledged = this.#acknowledged.filter((at) => at > now - ACKNOWLEDGEMENT_WINDOW);
    if (this.#acknowledged.length >= ACKNOWLEDGEMENTS) return;
    this.#acknowledged.push(now);
    const payload = { status: "processed" };
    const envelope = await seal(this.#keys, { inReplyTo: id, payload, timestamp: now, to: from, type: "ack" });
    // Not kept: the message comes again if its sender asks again.
    await this.#link.session?.send({ envelope, to: from }).catch(() => {});
  }
}

function* batches(ids) {
  for (let start = 0; start < ids.length; start += IDS_AT_ONCE) yield ids.slice(start, start + IDS_AT_ONCE);
}
