/** The chat: an identity first, then one tab that leads, and the page that shows it all. */

import { KeyPair, whyNoKeys } from "../agora/keys.js";
import { byId, say } from "../ui/dom.js";
import { icon, mark } from "../ui/icons.js";
import { Engine } from "./engine.js";
import * as identity from "./identity.js";
import { Store } from "./store.js";
import { Wire, lead } from "./tabs.js";
import { Screen } from "./view/screen.js";

for (const place of document.querySelectorAll("[data-icon]")) place.append(icon(place.dataset.icon));
for (const place of document.querySelectorAll(".brand")) place.prepend(mark());

/** Begin: with the identity that is there, or by asking for one. */
async function begin() {
  const why = await whyNoKeys();
  if (why !== null) return showWhyNot(why);
  const store = await Store.open().catch((error) => showNoStore(error));
  if (store === undefined) return;
  const found = await identity.load(store);
  if (found === null) welcome(store);
  else await takePart(store, found);
}

function showWhyNot(why) {
  byId("why-insecure").hidden = why !== "insecure";
  byId("why-no-ed25519").hidden = why !== "no-ed25519";
  const { hostname, pathname, port } = location;
  say(byId("secure-address"), `https://${hostname}${port ? `:${port}` : ""}${pathname}`);
  show("cannot");
}

function showNoStore(error) {
  byId("why-no-store").hidden = false;
  say(byId("store-error"), error.message);
  show("cannot");
}

// Without an identity

function welcome(store) {
  show("welcome");
  byId("make").addEventListener("submit", async (event) => {
    event.preventDefault();
    const made = { keys: await KeyPair.generate(), name: byId("name").value.trim() };
    await settle(store, made);
  });
  byId("file").addEventListener("change", async () => {
    const [file] = byId("file").files;
    if (file === undefined) return;
    try {
      await settle(store, await identity.restore(file));
    } catch (error) {
      say(byId("file-wrong"), error.message);
    } finally {
      byId("file").value = "";
    }
  });
  byId("name").focus();
}

async function settle(store, made) {
  await identity.save(store, made);
  // Asks the browser not to clear this by itself when it is short of room; it may say no.
  navigator.storage?.persist?.().catch(() => {});
  await takePart(store, made);
}

// With one

async function takePart(store, { keys, name }) {
  const wire = new Wire();
  show("app");
  const screen = new Screen({ keys, name, store, wire }, { erase: () => erase(store, wire, stopping), lock: (name) => lock(store, wire, keys, name) });
  const stopping = new AbortController();
  await screen.begin();
  await lead(() => new Engine({ keys, store, wire }).run(stopping.signal), stopping.signal);
}

/** Lock the key, in the store and in all tabs: from now on no page can read it. */
async function lock(store, wire, keys, name) {
  await keys.lock();
  await identity.save(store, { keys, name });
  wire.tell({ kind: "identity" });
}

async function erase(store, wire, stopping) {
  wire.tell({ kind: "leave" });
  stopping.abort();
  store.close();
  await Store.erase();
  wire.tell({ kind: "erased" });
  location.reload();
}

function show(id) {
  for (const part of ["cannot", "welcome", "app"]) byId(part).hidden = part !== id;
}

begin();
