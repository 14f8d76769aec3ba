/** The dashboard: the token first, then the figures, as long as the page is open. */

import { byId, say } from "../ui/dom.js";
import { timeToSecond } from "../ui/format.js";
import { mark } from "../ui/icons.js";
import { WrongToken, follow } from "./overview.js";
import { forgetToken, keepToken, takeToken } from "./token.js";
import { Board } from "./view.js";

const board = new Board();
let stopping = new AbortController();
let awaySince = null;
let lastFigures = null;

byId("brand").prepend(mark());

byId("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value);
  watch(takeToken());
});

byId("forget").addEventListener("click", () => {
  forgetToken();
  stopping.abort();
  ask("");
});

/** Follow the relay with *token* until it is refused. */
async function watch(token) {
  stopping.abort();
  stopping = new AbortController();
  const { signal } = stopping;
  setState("trying", "Asking the relay");
  try {
    await follow(token, { away: showAway, figures: showFigures }, signal);
  } catch (error) {
    if (!(error instanceof WrongToken)) throw error;
    if (signal.aborted) return;
    forgetToken();
    ask("The relay does not know this token. It has a new one after each start, unless one is set.");
  }
}

/** Show the form, with what was wrong with the last token. */
function ask(wrong) {
  byId("board").hidden = true;
  byId("gate").hidden = false;
  byId("token").value = "";
  say(byId("token-wrong"), wrong);
  say(byId("relay"), location.host);
  setState("", "No figures without the token");
  byId("token").focus();
}

function showFigures(overview) {
  awaySince = null;
  lastFigures = Date.now();
  byId("gate").hidden = true;
  byId("board").hidden = false;
  byId("board").classList.remove("old");
  byId("away").hidden = true;
  board.show(overview);
  setState("live", "Live");
}

function showAway() {
  awaySince ??= Date.now();
  setState("away", "The relay is away");
  if (lastFigures === null) return;
  byId("board").classList.add("old");
  byId("away").hidden = false;
  say(
    byId("away"),
    `The relay has not answered since ${timeToSecond(awaySince)}. These are its last figures; the page goes on by itself when it is back.`,
  );
}

function setState(is, words) {
  byId("state").dataset.is = is;
  say(byId("state"), words);
}

addEventListener("hashchange", () => location.hash.includes("token=") && watch(takeToken()));

const token = takeToken();
if (token === null) ask("");
else watch(token);
