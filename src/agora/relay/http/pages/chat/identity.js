/**
 * The person's key: made here, kept here, copied once, locked then.
 *
 * The file of a copy is that of the Agora command line (`config.json`), so the same person can
 * be the same peer there. Contacts are in it too.
 */

import { KeyPair } from "../agora/keys.js";

/** Bytes of a file that is read as an identity: some ten thousand contacts. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** Return the identity that this browser has, as `{keys, name}`; null where it has none. */
export async function load(store) {
  const kept = await store.get("self", "identity");
  if (kept === undefined) return null;
  return { keys: new KeyPair(kept.peerId, kept.handle), name: kept.name };
}

/** Keep an identity in this browser, in place of any other. */
export function save(store, { contacts = [], keys, name }) {
  return store.write(async ({ get, put }) => {
    await put("self", { handle: keys.handle, name, peerId: keys.peerId }, "identity");
    for (const { id, name: called } of contacts) {
      await put("peers", { ...(await get("peers", id)), id, name: called });
    }
  });
}

/** Return the text of the file that is the identity; only an open key can be copied. */
export async function copyOf({ contacts, keys, name }) {
  const peers = contacts
    .filter(({ name: called }) => called)
    .map(({ id, name: called }) => [id, { name: called, publicKey: id }]);
  const identity = { publicKey: keys.peerId, privateKey: await keys.toHex(), ...(name ? { name } : {}) };
  return `${JSON.stringify({ identity, peers: Object.fromEntries(peers) }, null, 2)}\n`;
}

/**
 * Read an identity from such a file.
 *
 * @returns {Promise<{contacts, keys, name}>}
 * @throws {Error} If it is none; the message says why.
 */
export async function restore(file) {
  if (file.size > MAX_FILE_BYTES) throw new Error("The file is too large to be an identity.");
  let members;
  try {
    members = JSON.parse((await file.text()).replace(/^\ufeff/, ""));
  } catch {
    throw new Error("The file is not JSON. A copy of an identity is a file such as agora-identity.json.");
  }
  const { name, privateKey, publicKey } = members?.identity ?? {};
  if (typeof privateKey !== "string") throw new Error("The file has no private key in it.");
  let keys;
  try {
    keys = await KeyPair.fromHex(privateKey);
  } catch {
    throw new Error("The private key in the file is damaged.");
  }
  if (keys.peerId !== publicKey) throw new Error("The two keys in the file do not belong together.");
  await keys.lock(); // there is a copy: it is what was just read
  return { contacts: contactsIn(members.peers), keys, name: textOrEmpty(name) };
}

function contactsIn(peers) {
  const entries = typeof peers === "object" && peers !== null ? Object.entries(peers) : [];
  return entries
    .map(([key, entry]) => ({ id: entry?.publicKey, name: textOrEmpty(entry?.name) || nameOf(key, entry) }))
    .filter(({ id, name }) => typeof id === "string" && name);
}

// Older files have the name where newer ones have the key.
const nameOf = (key, entry) => (key === entry?.publicKey ? "" : key);

const textOrEmpty = (value) => (typeof value === "string" ? value : "");
