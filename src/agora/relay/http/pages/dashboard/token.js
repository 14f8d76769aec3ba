/**
 * The admin token: brought by the address, kept as long as this tab is open.
 *
 * It comes behind the `#`, which browsers send to nobody, and leaves the address bar at once,
 * so that it is in no history, no bookmark and no picture of the screen.
 */

const KEY = "agora.admin-token";

/** Take the token out of the address, if it has one; return the one to use, or null. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(given);
  }
  return sessionStorage.getItem(KEY);
}

/** Use this token from now on, in this tab. */
export const keepToken = (token) => sessionStorage.setItem(KEY, token.trim());

/** Forget it. */
export const forgetToken = () => sessionStorage.removeItem(KEY);
