/**
 * The relay's HTTP API as the chat uses it: one method for each request, one kind of error.
 *
 * Nothing private ever goes out: the key signs here, and only signatures travel.
 */

import { randomHex } from "../agora/bytes.js";
import { audienceOf, isGenuineChallenge, signProof } from "../agora/proof.js";

/** Milliseconds after which a request counts as lost; longer than the relay lets one wait. */
const PATIENCE = 40_000;

/** The relay refused: `code` is for programs, `message` for people. */
export class Refused extends Error {
  name = "Refused";

  constructor(status, { code, message, ...members } = {}) {
    super(message ?? `the relay answered ${status}`);
    this.status = status;
    this.code = code ?? "unavailable";
    this.members = members;
  }

  /** Whether the token is none any more: a new one has to be asked for. */
  get isAboutToken() {
    return this.status === 401 && this.code === "not_registered";
  }
}

/** The relay is another than the one that this browser knows by this address. */
export class RelayChanged extends Error {
  name = "RelayChanged";

  constructor(known, found) {
    super("this relay has another key than the one known by this address");
    this.known = known;
    this.found = found;
  }
}

/**
 * Prove our key to the relay, after it has proven its own.
 *
 * @param {KeyPair} keys Ours.
 * @param {object} said `name` for others to see, and `known`, the relay's key as first seen.
 * @returns {Promise<object>} What the relay answered: `token`, `expiresAt`, `relay`, `limits`, …
 * @throws {RelayChanged} If it is not the *known* relay.
 * @throws {Refused} If it does not want us.
 */
export async function register(keys, { name, known }) {
  const publicKey = keys.peerId;
  const clientNonce = randomHex(32);
  const challenge = await call("POST", "/v1/challenge", { body: { nonce: clientNonce, publicKey } });
  if (!(await isGenuineChallenge(challenge, { clientNonce, publicKey }))) {
    throw new RelayChanged(known, null);
  }
  const { nonce, relay } = challenge;
  if (known && relay !== known) throw new RelayChanged(known, relay);
  const audience = audienceOf(location);
  const signature = await signProof(keys, { audience, nonce, relay });
  const body = { audience, nonce, publicKey, signature, ...(name ? { name } : {}) };
  const answer = await call("POST", "/v1/register", { body });
  return { ...answer, relay };
}

/** What can be asked of the relay with a token. */
export class Session {
  constructor({ token, relay, limits }) {
    this.token = token;
    this.relay = relay;
    this.limits = limits ?? {};
  }

  /**
   * Hand over an envelope, without waiting for what becomes of it.
   *
   * @returns {Promise<{receipts, errors, pending}>} One word for each recipient; of those in
   *   `pending` it comes as an event.
   */
  async send({ after, confirm, envelope, to }) {
    const body = { envelope, to, wait: 0, ...(confirm ? { confirm } : {}), ...(after ? { after } : {}) };
    try {
      return await this.#call("POST", "/v1/send", { body });
    } catch (error) {
      // Refused for everyone, with a word for each: that is an answer, not a failure.
      if (error instanceof Refused && Array.isArray(error.members.errors)) {
        return { errors: error.members.errors, pending: [], receipts: [] };
      }
      throw error;
    }
  }

  /** Say that these messages are kept here. */
  ack(ids) {
    return this.#call("POST", "/v1/ack", { body: { ids } });
  }

  /** Have these messages come again, after *delayMs*. */
  nack(ids, delayMs) {
    return this.#call("POST", "/v1/nack", { body: { delayMs, ids } });
  }

  /** Open the stream of events; *last* is the id of the last one that was dealt with. */
  async events(last, signal) {
    const headers = { Accept: "text/event-stream", Authorization: `Bearer ${this.token}` };
    if (last) headers["Last-Event-ID"] = last;
    const response = await fetch("/v1/events?presence=all", { cache: "no-store", headers, signal });
    if (!response.ok) throw await refusal(response);
    return response.body;
  }

  /** End the session, so that we are not online any more. */
  disconnect() {
    return this.#call("DELETE", "/v1/disconnect", { keepalive: true });
  }

  #call(method, path, options = {}) {
    return call(method, path, { ...options, token: this.token });
  }
}

async function call(method, path, { body, keepalive = false, token } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token !== undefined) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, {
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    headers,
    keepalive,
    method,
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? null : response.json();
}

async function refusal(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // an answer of something in between
  }
  const wait = Number(response.headers.get("Retry-After")) * 1000;
  const error = typeof body.error === "object" && body.error !== null ? body.error : {};
  const errors = error.errors ?? body.errors;
  return new Refused(response.status, {
    ...(wait > 0 ? { retryAfterMs: wait } : {}),
    ...error,
    ...(errors === undefined ? {} : { errors }),
  });
}
