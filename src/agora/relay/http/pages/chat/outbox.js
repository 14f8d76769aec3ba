/**
 * Brings messages to the relay: what is on its way stays so until somebody says what became of it.
 *
 * Messages of one conversation go out together and keep their order: each names the one before it
 * (`after`), and the relay takes none whose predecessor it did not take. A request is answered when
 * the relay has the envelope; what becomes of it comes as events. What was not answered when the
 * connection ends goes out again over the next one; the relay knows it by its id.
 */

import { EVERYONE } from "../agora/envelope.js";
import { fateOfReceipt, isPassing, openRecipients, withFate } from "./delivery.js";
import { Refused } from "./relay.js";

/** Requests under way at once: of the six that browsers have for one place, one listens. */
const AT_ONCE = 4;

/** Milliseconds before what the relay had no time for is tried again, where it did not say. */
const PAUSE = 1000;

export class Outbox {
  #store;
  #link;
  #changed;
  #underWay = new Set();
  #handedOver = new Set();
  #isPumping = false;
  #isWanted = false;
  #notBefore = 0;
  #timer = null;

  /**
   * @param {Store} store Keeps the messages.
   * @param {Link} link The way to the relay.
   * @param {function} changed Called with each message that has changed.
   */
  constructor(store, link, changed) {
    this.#store = store;
    this.#link = link;
    this.#changed = changed;
  }

  /** Send what is on its way, as far as there is a relay. */
  async pump() {
    this.#isWanted = true;
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#isWanted) {
        this.#isWanted = false;
        await this.#sendWhatWaits();
      }
    } finally {
      this.#isPumping = false;
    }
  }

  /** A connection is open: whatever the last one did not answer is asked for again. */
  opened() {
    this.#handedOver.clear();
    this.pump();
  }

  /** Take what the relay tells later of a message that it had: a receipt or an error. */
  async heard(word) {
    const message = await this.#store.get("messages", word.id);
    if (!message?.mine) return;
    const isReceipt = word.status !== undefined;
    const answer = { errors: isReceipt ? [] : [word], receipts: isReceipt ? [word] : [] };
    const after = await this.#settle(message, openRecipients(message), answer);
    // With the last word it is no more; what is refused for now is to be sent again.
    if (isReceipt && openRecipients(after ?? message).length > 0) return;
    this.#handedOver.delete(word.id);
    this.pump();
  }

  async #sendWhatWaits() {
    if (this.#link.session === null || this.#mustWait()) return;
    const previous = new Map();
    for (const message of await this.#store.unsent()) {
      const { conversation, id } = message;
      if (!this.#underWay.has(id) && !this.#handedOver.has(id)) {
        if (this.#underWay.size >= AT_ONCE || this.#link.session === null) return;
        // Only what is not answered can be overtaken.
        this.#underWay.add(id);
        this.#handedOver.add(id);
        this.#send(message, previous.get(conversation));
      }
      previous.set(conversation, id);
    }
  }

  #mustWait() {
    const wait = this.#notBefore - Date.now();
    if (wait <= 0) return false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.pump(), wait);
    return true;
  }

  async #send(listed, after) {
    const { session } = this.#link;
    // It was listed a while ago, and may have been answered since.
    const message = (await this.#store.get("messages", listed.id)) ?? { ...listed, fates: {} };
    const recipients = openRecipients(message);
    const isForAll = recipients[0] === EVERYONE;
    try {
      if (recipients.length === 0) {
        this.#handedOver.delete(listed.id);
        return;
      }
      const answer = await session.send({
        after,
        confirm: !isForAll,
        envelope: message.envelope,
        to: isForAll || recipients.length === 1 ? recipients[0] : recipients,
      });
      if (answer.pending.length === 0) this.#handedOver.delete(message.id);
      await this.#settle(message, recipients, answer);
    } catch (error) {
      this.#handedOver.delete(message.id);
      await this.#failed(message, recipients, error);
    } finally {
      this.#underWay.delete(message.id);
      this.pump();
    }
  }

  async #failed(message, recipients, error) {
    if (!(error instanceof Refused)) {
      this.#pause(PAUSE); // the relay is away; the link knows, or soon will
    } else if (error.isAboutToken) {
      await this.#link.renew();
    } else if (error.status >= 500 || error.status === 429) {
      this.#pause(error.members.retryAfterMs ?? PAUSE);
    } else {
      const errors = recipients.map((to) => ({ code: error.code, message: error.message, to }));
      await this.#settle(message, recipients, { errors, receipts: [] });
    }
  }

  #pause(ms) {
    this.#notBefore = Math.max(this.#notBefore, Date.now() + ms);
  }

  /** Write down what the relay said of each recipient; return the message if that changed it. */
  async #settle({ id }, recipients, { errors, receipts }) {
    const fates = new Map(receipts.map((receipt) => [receipt.to, fateOfReceipt(receipt)]));
    for (const error of errors) {
      // An error that names nobody is about the whole frame.
      for (const to of recipients.includes(error.to) ? [error.to] : recipients) {
        if (!fates.has(to)) fates.set(to, this.#fateOf(error));
      }
    }
    return changeMessage(this.#store, id, fates, this.#changed);
  }

  #fateOf({ code, message, retryAfterMs }) {
    if (!isPassing(code)) return { code, status: "refused", text: message };
    if (code !== "out_of_order") this.#pause(retryAfterMs ?? PAUSE);
    return { code, status: "sending", waits: true };
  }
}

/** Write what became of a message; tell and return what it is now, null if that is the same. */
async function changeMessage(store, id, fates, changed) {
  const after = await store.write(async ({ get, put }) => {
    const before = await get("messages", id);
    if (before === undefined || !before.mine) return null;
    let message = before;
    for (const [peer, fate] of fates) message = withFate(message, peer, fate);
    if (message === before) return null;
    await put("messages", message);
    return message;
  });
  if (after !== null) changed(after);
  return after;
}
