/**
 * Several tabs, one connection: all of them show and write, one of them leads and talks.
 *
 * Who leads is settled by a lock of the browser, which passes on when its tab closes. What
 * changed goes to all tabs, this one too, as small notes; what it is they read from the store.
 */

const NAME = "agora-chat";

/** Carries notes between the tabs of this browser. */
export class Wire {
  #channel = new BroadcastChannel(NAME);
  #listeners = new Set();

  constructor() {
    this.#channel.onmessage = ({ data }) => this.#deliver(data);
  }

  /** Tell every tab. */
  tell(note) {
    this.#channel.postMessage(note);
    this.#deliver(note);
  }

  /** Have notes of kind `x` given to *listener*'s `onx`, until *signal* ends it. */
  listen(listener, signal) {
    this.#listeners.add(listener);
    signal?.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  #deliver(note) {
    for (const listener of this.#listeners) listener[`on${note.kind}`]?.(note);
  }
}

/** Run *work* while this tab leads: now, or when those that lead before it are closed. */
export function lead(work, signal) {
  return navigator.locks.request(NAME, { signal }, () => work()).catch((error) => {
    if (error.name !== "AbortError") throw error;
  });
}
