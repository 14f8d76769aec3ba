/**
 * What is kept of messages and conversations, and what follows from an envelope alone. Pure.
 *
 * A message:
 * `id`, `envelope` (as it was signed, so that it proves itself for ever), `conversation`,
 * `order` (place in the history: when it came here), `mine`, `name` (as claimed then), and of
 * ours `fates` (of each recipient what has become of it: delivery.js), `unsent` (its order,
 * while some recipient's fate is open), `after` (what it must not overtake).
 *
 * A conversation:
 * `id`, `kind` (`direct`, `group`, `everyone`), `members` (without us), `order` (of what was
 * last said), `unread` (how many), `preview` (`{from, words}`), `draft`.
 */

import { EVERYONE } from "../agora/envelope.js";
import { printableLine, wordsOf } from "../agora/text.js";

/** The conversation that broadcasts are in. */
export const EVERYONE_ID = EVERYONE;

/** Characters of a message that stand for it in a list. */
const PREVIEW = 120;

/** Tell which conversation an envelope belongs to, as *me* sees it. */
export function conversationOf({ from, to }, me) {
  if (to.includes(EVERYONE)) return conversation("everyone", []);
  const members = [...new Set([from, ...to])].filter((peer) => peer !== me).sort();
  return conversation(members.length === 1 ? "direct" : "group", members);
}

/** Return the conversation with these peers, of which we are none. */
export function conversationWith(peers) {
  const members = [...new Set(peers)].sort();
  return conversation(members.length === 1 ? "direct" : "group", members);
}

/** Return the conversation with everyone. */
export const everyone = () => conversation("everyone", []);

const conversation = (kind, members) => ({
  id: kind === "everyone" ? EVERYONE_ID : members.join(" "),
  kind,
  members,
  order: 0,
  preview: null,
  unread: 0,
});

/** Return a conversation behind one more message. */
export function withMessage(before, message) {
  const { envelope, mine, order } = message;
  const preview = { from: envelope.from, words: previewOf(envelope) };
  return { ...before, order, preview, unread: before.unread + (mine ? 0 : 1) };
}

/** Return what stands for an envelope in a list: its first words, or its JSON. */
export function previewOf({ payload, type }) {
  const words = printableLine(wordsOf(payload)) || (payload === undefined ? type : jsonLine(payload));
  return words.length > PREVIEW ? `${words.slice(0, PREVIEW)}…` : words;
}

const jsonLine = (payload) => printableLine(JSON.stringify(payload).slice(0, 4 * PREVIEW));

let lastOrder = 0;
let lastTimestamp = 0;

/** Return a place in the history behind all that this tab has given before. */
export function nextOrder(now = Date.now()) {
  lastOrder = Math.max(now, lastOrder + 0.001);
  return lastOrder;
}

/**
 * Return the time of a message of ours: no two have the same.
 *
 * An id is a hash of content and time: the same words twice in a millisecond would be one message.
 */
export function nextTimestamp(now = Date.now()) {
  lastTimestamp = Math.max(now, lastTimestamp + 1);
  return lastTimestamp;
}
