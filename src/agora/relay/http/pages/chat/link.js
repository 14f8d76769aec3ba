/**
 * The connection that comes back: registers, listens, and tries again with growing, jittered waits.
 *
 * What is heard is given to *hands*, one list at a time; the next is read when the last is dealt
 * with, so that nothing is acked before it is kept.
 */

import { Refused, RelayChanged, Session, register } from "./relay.js";
import { eventsOf } from "./stream.js";

/** Milliseconds: the ceiling of the first wait, which doubles, and that of every later one. */
const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;

/** Milliseconds without a sign of life after which the stream counts as dead: the relay gives one every 15 s. */
const SILENCE = 45_000;

/** Milliseconds after which a connection was a good one, and the next wait is short again. */
const STEADY = 5_000;

/** Milliseconds that a registration still has to be good for when it is used again. */
const GOOD_FOR = 60_000;

/** Refusals that trying again does not change: a person has to. */
const FINAL = new Set(["proof_failed", "proof_required", "invalid_message", "banned"]);

export class Link {
  #keys;
  #hands;
  #kept = null;
  #session = null;
  #last = null;
  #stream = null;
  #poked = null;

  /**
   * @param {KeyPair} keys Who we are.
   * @param {object} hands What is done with what is heard:
   *   `registration()` returns `{name, known, kept}`, what is known of earlier ones;
   *   `registered(answer)` keeps a new one; `opened()` is called when the stream is open;
   *   `heard(events)` deals with events; `state(state)` is told how it stands.
   */
  constructor(keys, hands) {
    this.#keys = keys;
    this.#hands = hands;
  }

  /** What can be asked of the relay now; null while it is away. */
  get session() {
    return this.#session;
  }

  /** Stay connected until *signal* ends it. */
  async run(signal) {
    signal.addEventListener("abort", () => this.#stream?.abort());
    let failures = 0;
    while (!signal.aborted) {
      const began = Date.now();
      const problem = await this.#converse();
      this.#session = null;
      if (signal.aborted) return;
      if (Date.now() - began > STEADY) failures = 0;
      failures += 1;
      const isAboutToken = problem instanceof Refused && problem.isAboutToken;
      if (isAboutToken) await this.#forget();
      // An old token is nobody's fault: the first time it is replaced at once.
      if (!isAboutToken || failures > 1) await this.#rest(problem, failures, signal);
    }
  }

  /** Try again now, however long it would have waited. */
  poke() {
    this.#poked?.();
  }

  /** Register anew: the name has changed, or the token is refused. */
  async renew() {
    await this.#forget();
    this.#stream?.abort();
    this.poke();
  }

  /** Forget the registration: the next one is a new one. */
  async #forget() {
    this.#kept = null;
    this.#last = null;
    await this.#hands.registered(null);
  }

  /** Talk until it ends; return why it did. */
  async #converse() {
    this.#stream = new AbortController();
    const { signal } = this.#stream;
    try {
      const session = new Session(await this.#registration());
      const body = await session.events(this.#last, signal);
      this.#session = session;
      this.#hands.opened();
      this.#hands.state({ is: "live" });
      for await (const events of eventsOf(body, SILENCE)) {
        if (events.length === 0) continue;
        await this.#hands.heard(events);
        this.#last = events.findLast(({ id }) => id !== null)?.id ?? this.#last;
      }
      return new Error("the relay ended the connection");
    } catch (error) {
      return error;
    } finally {
      this.#stream.abort();
    }
  }

  async #registration() {
    const { kept, known, name } = await this.#hands.registration();
    this.#kept ??= kept;
    if (this.#kept && this.#kept.expiresAt - Date.now() > GOOD_FOR) return this.#kept;
    this.#hands.state({ is: "trying" });
    this.#kept = await register(this.#keys, { known, name });
    this.#last = null;
    await this.#hands.registered(this.#kept);
    return this.#kept;
  }

  /** Wait for the next attempt, or for a person, where that is who can help. */
  async #rest(problem, failures, signal) {
    const isFinal = problem instanceof RelayChanged || (problem instanceof Refused && FINAL.has(problem.code));
    const ceiling = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(failures - 1, 16));
    const told = problem instanceof Refused ? (problem.members.retryAfterMs ?? 0) : 0;
    const wait = Math.max(told, Math.random() * ceiling);
    this.#hands.state({ is: isFinal ? "stopped" : "away", problem: describe(problem), until: Date.now() + wait });
    await new Promise((resolve) => {
      const timer = isFinal ? null : setTimeout(resolve, wait);
      this.#poked = () => {
        clearTimeout(timer);
        resolve();
      };
      signal.addEventListener("abort", this.#poked, { once: true });
    });
    this.#poked = null;
  }
}

/** Return what is told of a problem to other tabs: plain values. */
function describe(problem) {
  const { code, found, known, message, name } = problem;
  return { code, found, known, message, name };
}
