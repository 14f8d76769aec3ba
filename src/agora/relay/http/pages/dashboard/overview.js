/** Asks the relay for its figures, again and again, and says when it does not answer. */

/** Milliseconds between an answer and the next question. */
const PAUSE = 2000;

/** Milliseconds after which an answer will not come. */
const PATIENCE = 5000;

/** The token was refused: another one is needed. */
export class WrongToken extends Error {
  name = "WrongToken";
}

/** Return the relay's figures. */
async function ask(token) {
  const response = await fetch("/admin/overview", {
    cache: "no-store",
    headers: { Authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (response.status === 401 || response.status === 403) throw new WrongToken();
  if (!response.ok) throw new Error(`the relay answered ${response.status}`);
  return response.json();
}

/**
 * Follow the relay until the token turns out to be wrong, or *signal* ends it.
 *
 * While the page is out of sight nothing is asked; back in sight, it is at once.
 *
 * @param {string} token The admin token.
 * @param {{figures: function, away: function}} tell Called with what came, or that nothing did.
 * @throws {WrongToken} If the relay refuses the token.
 */
export async function follow(token, tell, signal) {
  while (!signal.aborted) {
    try {
      tell.figures(await ask(token));
    } catch (error) {
      if (error instanceof WrongToken) throw error;
      if (!signal.aborted) tell.away();
    }
    await pause(signal);
  }
}

async function pause(signal) {
  await either(signal, (done) => {
    const timer = setTimeout(done, PAUSE);
    return () => clearTimeout(timer);
  });
  if (!document.hidden || signal.aborted) return;
  await either(signal, (done) => {
    document.addEventListener("visibilitychange", done);
    return () => document.removeEventListener("visibilitychange", done);
  });
}

/** Wait until what *start* began is done, or *signal* ends it. */
function either(signal, start) {
  return new Promise((resolve) => {
    const done = () => {
      stop();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const stop = start(done);
    signal.addEventListener("abort", done);
  });
}
