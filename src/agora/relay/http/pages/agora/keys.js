/**
 * Who speaks: Ed25519 keys (RFC 8032) and the peer ids made of them.
 *
 * A peer id is the public key itself: lower-case hex of its SubjectPublicKeyInfo
 * (RFC 8410). The arithmetic is the browser's (WebCrypto); points that anybody can
 * sign as, or that have two spellings, are refused before it sees them.
 */

import { fromHex, toHex } from "./bytes.js";

const PUBLIC_KEY_PREFIX = "302a300506032b6570032100";
const PRIVATE_KEY_PREFIX = "302e020100300506032b657004220420";

const PEER_ID = new RegExp(`^${PUBLIC_KEY_PREFIX}[0-9a-f]{64}$`);
const PRIVATE_KEY = new RegExp(`^${PRIVATE_KEY_PREFIX}[0-9a-f]{64}$`);
const SIGNATURE = /^[0-9a-f]{128}$/;

/** The hex of 48 encodings that are neither a peer's key nor the first half of a signature. */
const REFUSED_POINTS = refusedPoints();

function refusedPoints() {
  // The y of the points of small order, as whom anybody can sign, and whatever RFC 8032
  // section 5.1.3 does not decode though libraries do; each with both signs of x.
  const p = 2n ** 255n - 19n;
  const order8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n;
  const ys = [0n, 1n, p - 1n, order8, p - order8];
  for (let y = p; y < 2n ** 255n; y += 1n) ys.push(y);
  return new Set(ys.flatMap((y) => [littleEndian(y), littleEndian(y | (1n << 255n))]));
}

function littleEndian(number) {
  return number.toString(16).padStart(64, "0").match(/../g).reverse().join("");
}

/** Tell whether a value is a public key in its one spelling, and not a refused one. */
export const isPeerId = (value) =>
  typeof value === "string" &&
  PEER_ID.test(value) &&
  !REFUSED_POINTS.has(value.slice(PUBLIC_KEY_PREFIX.length));

/** Tell whether a value is a private key in its one spelling. */
export const isPrivateKey = (value) => typeof value === "string" && PRIVATE_KEY.test(value);

/** Tell whether *signature* is *peerId*'s over *bytes*, whatever the first two may be. */
export async function verify(peerId, signature, bytes) {
  if (!isPeerId(peerId) || typeof signature !== "string" || !SIGNATURE.test(signature)) return false;
  if (REFUSED_POINTS.has(signature.slice(0, 64))) return false;
  const key = await publicKey(peerId);
  return key !== null && crypto.subtle.verify("Ed25519", key, fromHex(signature), bytes);
}

async function publicKey(peerId) {
  try {
    return await crypto.subtle.importKey("spki", fromHex(peerId), "Ed25519", false, ["verify"]);
  } catch {
    return null; // 32 bytes that are no point of the curve
  }
}

/**
 * Why this browser cannot keep a key here: `insecure`, `no-ed25519`, or null where it can.
 *
 * Browsers give WebCrypto only to pages that came over TLS or from this machine.
 */
export async function whyNoKeys() {
  if (!globalThis.isSecureContext || !globalThis.crypto?.subtle) return "insecure";
  try {
    await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
    return null;
  } catch {
    return "no-ed25519";
  }
}

/** A private key, which stays with the browser, and the peer id that belongs to it. */
export class KeyPair {
  #privateKey;

  constructor(peerId, privateKey) {
    this.peerId = peerId;
    this.#privateKey = privateKey;
  }

  /** Make a new key, which can be exported until it is {@link lock}. */
  static async generate() {
    const { privateKey } = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
    return new KeyPair(await peerIdOf(privateKey), privateKey);
  }

  /**
   * Read a private key from its 96 hex digits, as identity files hold it.
   *
   * @throws {TypeError} If it is malformed.
   */
  static async fromHex(digits) {
    if (!isPrivateKey(digits)) {
      throw new TypeError("not a private key: 96 lower-case hex digits of an Ed25519 key");
    }
    const privateKey = await importPrivate(fromHex(digits), true);
    return new KeyPair(await peerIdOf(privateKey), privateKey);
  }

  /** Whether its private key can still be read by the page. */
  get isOpen() {
    return this.#privateKey.extractable;
  }

  /** What the browser's database keeps of it: a handle, which no page can turn into text. */
  get handle() {
    return this.#privateKey;
  }

  /**
   * Return the private key as hex digits; whoever has them is this peer.
   *
   * @throws {DOMException} If the key is locked.
   */
  async toHex() {
    return toHex(await crypto.subtle.exportKey("pkcs8", this.#privateKey));
  }

  /** Lock it: from now on it signs, and neither this page nor any other can read it. */
  async lock() {
    if (!this.isOpen) return;
    const exported = await crypto.subtle.exportKey("pkcs8", this.#privateKey);
    this.#privateKey = await importPrivate(exported, false);
  }

  /** Use this handle of the same key from now on: it was locked elsewhere. */
  adopt(handle) {
    this.#privateKey = handle;
  }

  /** Sign bytes: 128 hex digits, for the same bytes always the same. */
  async sign(bytes) {
    return toHex(await crypto.subtle.sign("Ed25519", this.#privateKey, bytes));
  }
}

const importPrivate = (der, isOpen) =>
  crypto.subtle.importKey("pkcs8", der, "Ed25519", isOpen, ["sign"]);

async function peerIdOf(privateKey) {
  const { x } = await crypto.subtle.exportKey("jwk", privateKey);
  const raw = atob(x.replaceAll("-", "+").replaceAll("_", "/"));
  return PUBLIC_KEY_PREFIX + toHex(Uint8Array.from(raw, (character) => character.charCodeAt(0)));
}
