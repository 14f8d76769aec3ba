/**
 * The signed message: `seal` makes an envelope, `open` is the only way to trust one.
 *
 * An envelope's id is the SHA-256 of its canonical text, and its signature is over
 * that same text. Members that are not signed are stripped. `open` judges as the
 * Python library's `open_envelope` does, reason by reason; the tests hold both to
 * the same vectors.
 */

import { sha256, utf8 } from "./bytes.js";
import { CanonicalError, canonicalText, parseJson } from "./canonical.js";
import { isPeerId, verify } from "./keys.js";

/** The recipient that stands for whoever is there: a broadcast. */
export const EVERYONE = "*";

/** Nested arrays and objects that `seal` takes; the rest of the depth is for what is around. */
const MAX_PAYLOAD_DEPTH = 512;

// In the order in which the reference writes them, and in canonical order.
const WIRE_MEMBERS = ["id", "type", "from", "to", "timestamp", "inReplyTo", "payload", "signature"];
const SIGNED_MEMBERS = ["from", "inReplyTo", "payload", "timestamp", "to", "type"];

/** Why an envelope is refused: `reason` is one of three codes, the message is for people. */
export class EnvelopeError extends Error {
  name = "EnvelopeError";

  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

const badRouting = (message) => new EnvelopeError("invalid_routing_fields", message);

/**
 * Verify what came from elsewhere: a JSON text, or the value of one.
 *
 * @returns The envelope: its known members, in an object of its own.
 * @throws {EnvelopeError} If it is not a valid envelope.
 */
export async function open(what) {
  const members = knownMembers(readObject(what));
  // JSON.parse makes Infinity of 1e400, which is null to everybody who writes it again.
  if (!members.from || Math.abs(members.from) === Infinity) throw badRouting("no sender in `from`");
  if (!Array.isArray(members.to) || members.to.length === 0) {
    throw badRouting("`to` is not a list of at least one recipient");
  }
  const bytes = utf8(signedText(members));
  if (members.id !== (await sha256(bytes))) {
    throw new EnvelopeError("id_mismatch", "`id` is not the SHA-256 of the canonical text");
  }
  if (!(await verify(members.from, members.signature, bytes))) {
    throw new EnvelopeError("signature_invalid", "not signed by the key in `from`");
  }
  refuseMalformed(members);
  return members;
}

/**
 * Sign a message.
 *
 * @param {KeyPair} keys The sender's.
 * @param {object} said `type`, `payload` (any JSON), `to` (a peer id, `"*"` or a list),
 *   `timestamp` (ms since the Unix epoch), `inReplyTo` (an id, may be missing).
 * @throws {EnvelopeError} If a recipient is no peer id, or a member is of the wrong type.
 * @throws {CanonicalError} If the payload is not JSON, or nests too deep.
 */
export async function seal(keys, { type, payload, to, timestamp, inReplyTo }) {
  const recipients = distinct(to);
  const members = {
    type,
    from: keys.peerId,
    to: recipients.length > 0 ? recipients : [keys.peerId],
    timestamp,
    ...(inReplyTo === undefined ? {} : { inReplyTo }),
    payload: parseJson(JSON.stringify(payload) ?? "", MAX_PAYLOAD_DEPTH),
  };
  refuseMalformed(members);
  const bytes = utf8(signedText(members));
  return { id: await sha256(bytes), ...members, signature: await keys.sign(bytes) };
}

function readObject(what) {
  let value = what;
  if (typeof what === "string") {
    try {
      value = parseJson(what);
    } catch (error) {
      throw badRouting(error.message);
    }
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badRouting("not a JSON object");
  }
  return value;
}

const knownMembers = (value) =>
  Object.fromEntries(
    WIRE_MEMBERS.filter((name) => Object.hasOwn(value, name)).map((name) => [name, value[name]]),
  );

/** Write what is hashed and signed; a missing member is the word that JavaScript has for it. */
function signedText(members) {
  const parts = SIGNED_MEMBERS.filter((name) => name in members || name !== "inReplyTo").map(
    (name) => `"${name}":${name in members ? textOf(members[name]) : "undefined"}`,
  );
  return `{${parts.join(",")}}`;
}

function textOf(value) {
  try {
    return canonicalText(value);
  } catch (error) {
    throw error instanceof CanonicalError ? badRouting(error.message) : error;
  }
}

/** Refuse what the reference lets pass unlooked at. */
function refuseMalformed({ to, type, timestamp, inReplyTo = null }) {
  if (!to.every((recipient) => recipient === EVERYONE || isPeerId(recipient))) {
    throw badRouting("`to` holds something that is neither a peer id nor `*`");
  }
  if (typeof type !== "string") throw badRouting("`type` is not a string");
  if (!Number.isFinite(timestamp)) throw badRouting("`timestamp` is not a finite number");
  if (inReplyTo !== null && typeof inReplyTo !== "string") {
    throw badRouting("`inReplyTo` is neither a string nor null");
  }
}

const distinct = (to) => [
  ...new Set([to ?? []].flat().filter((entry) => typeof entry === "string" && entry.trim())),
];
