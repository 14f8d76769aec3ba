/** Bytes and their spellings. */

const ENCODER = new TextEncoder();

/** Return the UTF-8 of a text. */
export const utf8 = (text) => ENCODER.encode(text);

/** Spell bytes as lower-case hex digits. */
export const toHex = (bytes) =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Return the bytes that an even number of hex digits spells. */
export const fromHex = (digits) =>
  Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

/** Return *count* random bytes as hex digits. */
export const randomHex = (count) => toHex(crypto.getRandomValues(new Uint8Array(count)));

/** Return the SHA-256 of bytes as 64 hex digits. */
export const sha256 = async (bytes) => toHex(await crypto.subtle.digest("SHA-256", bytes));
