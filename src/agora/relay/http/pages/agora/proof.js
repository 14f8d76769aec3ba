/**
 * Proof of key: what the relay signs to show who it is, and what we sign in return.
 *
 * Each signature names its purpose and both parties. Ours also names the *audience*, the
 * host and port that this page was loaded from: so a relay in the middle cannot pass it on.
 */

import { utf8 } from "./bytes.js";
import { canonicalText } from "./canonical.js";
import { isPeerId, verify } from "./keys.js";

const IMPLIED_PORTS = { "http:": "80", "https:": "443" };

/** Return the audience of a location: host and port, the port always. */
export function audienceOf({ protocol, hostname, port }) {
  return `${hostname.replace(/\.$/, "")}:${port || IMPLIED_PORTS[protocol]}`;
}

/** Tell whether *relay* signed this challenge, for this registration. */
export async function isGenuineChallenge({ relay, nonce, signature }, { clientNonce, publicKey }) {
  const signed = { clientNonce, nonce, publicKey, purpose: "agora/1 http challenge", relay };
  return isPeerId(relay) && verify(relay, signature, utf8(canonicalText(signed)));
}

/** Return our signature: it is the owner of *keys* who registers, at *audience*. */
export function signProof(keys, { audience, nonce, relay }) {
  const publicKey = keys.peerId;
  const signed = { audience, nonce, publicKey, purpose: "agora/1 http authenticate", relay };
  return keys.sign(utf8(canonicalText(signed)));
}
