/**
 * What has become of a message of ours: of each recipient one fate, and of all a summary. Pure.
 *
 * | status      | who says so                                   | what it means                    |
 * |-------------|-----------------------------------------------|----------------------------------|
 * | `sending`   | nobody yet                                    | it is kept here until somebody does |
 * | `sent`      | the relay                                     | handed to a client that cannot ack  |
 * | `stored`    | the relay                                     | in the recipient's mailbox, on disk |
 * | `delivered` | the relay                                     | the recipient's client has it       |
 * | `processed` | the recipient, signed                         | its application is done with it     |
 * | `failed`    | the recipient, signed                         | its application has given it up     |
 * | `refused`   | the relay, with a code                        | it went nowhere                     |
 * | `bounced`   | the relay, signed, later                      | it was stored, and came back        |
 */

/** How far each status is: a later word never takes back a stronger one. */
const RANK = { sending: 0, refused: 1, sent: 2, stored: 3, delivered: 4, bounced: 5, failed: 6, processed: 7 };

/** Refusals after which the page tries again by itself. */
const PASSING = new Set(["rate_limited", "out_of_order", "not_registered"]);

/** What a person is told of each code, where the relay's own words are for programs. */
const WORDS = {
  at_capacity: "the relay has no room for more",
  expired: "it waited for too long",
  from_the_future: "this device’s clock is ahead of the relay’s",
  invalid_envelope: "the relay found it invalid",
  mailbox_full: "their mailbox is full",
  rate_limited: "too many messages at once",
  stale: "this device’s clock is behind the relay’s",
  too_large: "it is too long",
  unavailable: "they could not be reached just now",
  undeliverable: "their program put it off too often",
  unknown_recipient: "they are not online and have no mailbox here",
};

/** Tell in words why something was refused. */
export const reasonOf = ({ code, text }) => WORDS[code] ?? text ?? code ?? "for a reason that was not told";

/** Tell whether a refusal passes by itself. */
export const isPassing = (code) => PASSING.has(code);

/** Tell whether it must be signed anew to be sent again: its time was refused. */
export const needsNewTime = ({ fates }) =>
  Object.values(fates).some(({ code, status }) => status === "refused" && ["stale", "from_the_future"].includes(code));

/** The fates of a new message. */
export const openFates = (recipients) =>
  Object.fromEntries(recipients.map((peer) => [peer, { status: "sending" }]));

/** Return the recipients whose fate is open. */
export const openRecipients = ({ fates }) =>
  Object.keys(fates).filter((peer) => fates[peer].status === "sending");

/** Return the recipients that refused or to whom it could not be brought. */
export const refusedRecipients = ({ fates }) =>
  Object.keys(fates).filter((peer) => ["refused", "bounced"].includes(fates[peer].status));

/**
 * Return the message with one more word about one recipient.
 *
 * `unsent` goes when no fate is open any more. A word about nobody changes nothing.
 */
export function withFate(message, peer, fate) {
  const before = message.fates[peer];
  if (before === undefined || RANK[fate.status] < RANK[before.status]) return message;
  const fates = { ...message.fates, [peer]: fate };
  const { unsent, ...rest } = message;
  const isOpen = Object.values(fates).some(({ status }) => status === "sending");
  return isOpen ? { ...rest, fates, unsent: message.order } : { ...rest, fates };
}

/** Return the message so that it is sent again to whoever did not get it. */
export function again(message) {
  const open = refusedRecipients(message).map((peer) => [peer, { status: "sending" }]);
  return { ...message, fates: { ...message.fates, ...Object.fromEntries(open) }, unsent: message.order };
}

/** Return the fate that a receipt tells. */
export const fateOfReceipt = ({ count, status }) =>
  status === "duplicate" ? { status: "stored" } : { status, ...(count === undefined ? {} : { count }) };

/**
 * Say what has become of a message.
 *
 * @param {boolean} isLinked Whether the relay is there now.
 * @returns {{is: string, words: string}} `is`: `open`, `good`, `kept` or `bad`.
 */
export function summaryOf(message, isLinked) {
  const fates = Object.values(message.fates);
  if (fates.length === 1) return summaryOfOne(fates[0], isLinked);
  const bad = fates.filter(({ status }) => status === "refused" || status === "bounced" || status === "failed");
  if (bad.length > 0) {
    const [{ status }] = bad;
    const verb = { bounced: "Came back from", failed: "Given up by", refused: "Refused for" }[status];
    return { is: "bad", words: `${verb} ${bad.length} of ${fates.length}` };
  }
  const there = fates.filter(({ status }) => RANK[status] >= RANK.delivered || status === "sent").length;
  const stored = fates.filter(({ status }) => status === "stored").length;
  if (there + stored < fates.length) return summaryOfOne({ status: "sending" }, isLinked);
  if (stored === 0) return { is: "good", words: `Delivered to all ${fates.length}` };
  const rest = `stored for ${stored}`;
  return { is: "kept", words: there === 0 ? `Stored for all ${stored}` : `Delivered to ${there}, ${rest}` };
}

/** Say what has become of a message for one recipient. */
export function summaryOfOne(fate, isLinked) {
  switch (fate.status) {
    case "sending":
      if (!isLinked) return { is: "open", words: "Waits for the relay" };
      return { is: "open", words: fate.waits ? `Waits: ${reasonOf(fate)}` : "Sending…" };
    case "sent":
      return { is: "good", words: fate.count === undefined ? "Sent" : sentTo(fate.count) };
    case "stored":
      return { is: "kept", words: "Stored for them at the relay" };
    case "delivered":
      return { is: "good", words: "Delivered" };
    case "processed":
      return { is: "good", words: "Delivered and processed" };
    case "failed":
      return { is: "bad", words: "Delivered, but they gave it up" };
    case "bounced":
      return { is: "bad", words: `Came back: ${reasonOf(fate)}` };
    default:
      return { is: "bad", words: `Refused: ${reasonOf(fate)}` };
  }
}

function sentTo(count) {
  if (count === 0) return "Sent, but nobody else was online";
  return count === 1 ? "Sent to the one session online" : `Sent to the ${count} sessions online`;
}
