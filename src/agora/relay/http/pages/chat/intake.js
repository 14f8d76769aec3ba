/**
 * Takes in what the relay brings: verified, kept, and only then acked.
 *
 * What became of our own messages (acknowledgements, bounces, errors) goes to the message that it
 * is about; what is known already is acked again; those whom the person ignores are not heard.
 */

import { EVERYONE, EnvelopeError, open } from "../agora/envelope.js";
import { withFate } from "./delivery.js";
import { conversationOf, nextOrder, withMessage } from "./records.js";

/** Milliseconds until what is not genuine is brought again: it may bear the id of what is. */
const PUT_OFF = 3_600_000;

export class Intake {
  #store;
  #me;
  #hands;

  /**
   * @param {Store} store Keeps what came.
   * @param {string} me Our peer id.
   * @param {object} hands `relay()` returns the relay's key; `acknowledge(envelope)` sends a signed
   *   acknowledgement; `arrived(messages)`, `changed(message)` and `refused(error)` tell the page.
   */
  constructor(store, me, hands) {
    this.#store = store;
    this.#me = me;
    this.#hands = hands;
  }

  /**
   * Take messages in, in order.
   *
   * @param {Array<object>} frames What the relay says came.
   * @returns {Promise<{ack: string[], nack: string[], delayMs: number}>} What it is to be told,
   *   now that all is on disk.
   * @throws {DOMException} If the disk is full: then nothing was taken.
   */
  async take(frames) {
    const said = { ack: [], delayMs: PUT_OFF, nack: [] };
    const genuine = [];
    for (const [frame, result] of await Promise.all(frames.map(async (frame) => [frame, await judged(frame)]))) {
      if (result instanceof EnvelopeError) {
        this.#hands.refused(result);
        if (typeof frame.envelope?.id === "string") said.nack.push(frame.envelope.id);
      } else {
        genuine.push({ ...frame, envelope: result });
      }
    }
    if (genuine.length === 0) return said;
    const { arrived, changed, confirmed } = await this.#keep(genuine);
    // A broadcast is not acked: the relay does not wait for it.
    said.ack.push(...genuine.filter(({ envelope }) => envelope.to.includes(this.#me)).map(({ envelope }) => envelope.id));
    if (arrived.length > 0) this.#hands.arrived(arrived);
    changed.forEach(this.#hands.changed);
    confirmed.forEach(this.#hands.acknowledge);
    return said;
  }

  #keep(frames) {
    return this.#store.write(async (hands) => {
      const done = { arrived: [], changed: [], confirmed: [] };
      for (const frame of frames) await this.#keepOne(frame, hands, done);
      return done;
    });
  }

  async #keepOne(frame, hands, done) {
    const { confirm, envelope, name } = frame;
    const isForUs = envelope.to.includes(this.#me) || envelope.to.includes(EVERYONE);
    const peer = await hands.get("peers", envelope.from);
    if (!isForUs || envelope.from === this.#me || peer?.ignored) return;
    const about = await this.#about(envelope, hands);
    if (about !== null) {
      await hands.put("messages", about);
      done.changed.push(about);
      return;
    }
    if (envelope.type === "ack") return; // of what we do not know any more: nothing to show
    if ((await hands.get("messages", envelope.id)) === undefined) {
      done.arrived.push(await this.#file(envelope, name, hands));
      if (name && peer?.claimed !== name) {
        await hands.put("peers", { ...peer, claimed: name, id: envelope.from });
      }
    }
    // Also what was known: the first acknowledgement may not have come through.
    if (confirm === true && envelope.type !== "error") done.confirmed.push(envelope);
  }

  /** Return our own message that an envelope is about, with what it tells; null if it is about none. */
  async #about({ from, inReplyTo, payload, type }, { get }) {
    if ((type !== "ack" && type !== "error") || typeof inReplyTo !== "string") return null;
    const message = await get("messages", inReplyTo);
    if (!message?.mine) return null;
    if (type === "ack") {
      const status = payload?.status;
      return status === "processed" || status === "failed" ? changedOrNull(message, from, { status }) : null;
    }
    const isBounce = from === this.#hands.relay() && typeof payload?.code === "string";
    if (!isBounce) return null; // an agent's own error is something it says: an answer
    return changedOrNull(message, payload.recipient, { code: payload.code, status: "bounced" });
  }

  /** Put a message into its conversation. */
  async #file(envelope, name, { get, put }) {
    const found = conversationOf(envelope, this.#me);
    const message = { conversation: found.id, envelope, id: envelope.id, mine: false, name: name ?? null, order: nextOrder() };
    await put("messages", message);
    await put("conversations", withMessage((await get("conversations", found.id)) ?? found, message));
    return message;
  }
}

const changedOrNull = (message, peer, fate) => {
  const after = withFate(message, peer, fate);
  return after === message ? null : after;
};

/** Open the envelope of a frame; return it, or the error that says why it is none. */
async function judged({ envelope, from }) {
  try {
    const opened = await open(envelope);
    if (opened.from !== from) throw new EnvelopeError("sender_mismatch", "the relay names another sender");
    return opened;
  } catch (error) {
    if (error instanceof EnvelopeError) return error;
    throw error;
  }
}
