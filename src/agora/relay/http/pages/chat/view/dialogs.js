/** The dialogs: a new conversation, a peer, a message, ourselves. */

import { isPeerId } from "../../agora/keys.js";
import { confirmed, copyButton, openDialog } from "../../ui/dialog.js";
import { avatar } from "../../ui/avatar.js";
import { el, reconcile, say } from "../../ui/dom.js";
import * as format from "../../ui/format.js";
import { jsonView } from "../../ui/json.js";
import { summaryOfOne } from "../delivery.js";
import { copyOf } from "../identity.js";

/** Peers that are listed to choose from; more are found by writing. */
const LISTED = 60;

// A new conversation

/** Choose whom to write to; *open* gets their ids. */
export function newMessage(model, open) {
  const chosen = new Set();
  return openDialog("New message", (close) => {
    const list = el("ul.choices", { "aria-label": "Peers" });
    const button = el("button.button.main", { disabled: true }, "Open");
    const hint = el("p.hint", { id: "to-hint", role: "status" });
    const input = el("input", {
      "aria-describedby": "to-hint",
      autocapitalize: "off",
      autocomplete: "off",
      "data-first": true,
      id: "to",
      oninput: () => draw(),
      spellcheck: "false",
      type: "search",
    });
    const toggle = (peer) => {
      if (!chosen.delete(peer)) chosen.add(peer);
      draw();
    };
    const draw = () => {
      const written = input.value.trim();
      const found = candidates(model, written, chosen);
      reconcile(list, found.slice(0, LISTED), (peer) => peer, (peer) => choice(peer, toggle), (row, peer) => {
        say(row.querySelector(".name"), model.nameOf(peer));
        say(row.querySelector(".mono"), format.shortKey(peer));
        say(row.querySelector(".where"), model.isOnline(peer) ? "online" : "");
        row.querySelector("input").checked = chosen.has(peer);
      });
      say(hint, hintFor(written, found, chosen));
      const meant = meantBy(written, found, chosen);
      button.disabled = meant.length === 0;
      say(button, meant.length > 1 ? `Open a group with ${meant.length}` : "Open");
    };
    const submit = (event) => {
      event.preventDefault();
      const written = input.value.trim();
      const meant = meantBy(written, candidates(model, written, chosen), chosen);
      close();
      open(meant);
    };
    draw();
    const field = el("div.field", {}, el("label", { for: "to" }, "To"), input, hint);
    return el("form", { onsubmit: submit }, field, list, el("div.buttons", {}, button));
  });
}

function candidates(model, written, chosen) {
  if (isPeerId(written)) return [written, ...[...chosen].filter((peer) => peer !== written)];
  const wanted = written.toLowerCase().replace(/^@/, "");
  const fits = (peer) => model.nameOf(peer).toLowerCase().includes(wanted) || peer.includes(wanted);
  return [...new Set([...chosen, ...model.reachable().filter((peer) => fits(peer) && !model.isIgnored(peer))])];
}

/** Those chosen; where nobody is, the only one whom the text fits: so Enter is enough. */
function meantBy(written, found, chosen) {
  if (chosen.size > 0) return [...chosen];
  return written !== "" && found.length === 1 ? found : [];
}

function hintFor(written, found, chosen) {
  if (/^[0-9a-f]{20,}$/i.test(written) && !isPeerId(written)) {
    return `A peer id has 88 lower-case hex digits and begins with 302a3005; this has ${written.length}.`;
  }
  if (found.length === 0) return written === "" ? "Nobody else is known yet. Paste the peer id of whom you want to write to." : "Nobody fits. A whole peer id always does.";
  return chosen.size > 1 ? `${chosen.size} chosen: all of them see each other.` : "Choose one, or several for a group; or paste a peer id.";
}

const choice = (peer, toggle) =>
  el(
    "li",
    {},
    el(
      "label.row",
      {},
      el("input", { onchange: () => toggle(peer), type: "checkbox" }),
      avatar(peer),
      el("span.who", {}, el("span.name"), el("span.mono.faint")),
      el("span.where.faint"),
    ),
  );

// A peer, a group

/** Tell about a conversation, and change it; *hands* are those of {@link peer} and `forget`. */
export function conversation(model, shown, hands) {
  if (shown.kind === "direct") return peer(model, shown.members[0], hands);
  const title = shown.kind === "everyone" ? "Everyone" : `Group of ${shown.members.length + 1}`;
  return openDialog(title, (close) => [
    el(
      "p",
      {},
      shown.kind === "everyone"
        ? "What you say here goes to every session that is online now. It is not kept for those who are away, and nobody says that they have it."
        : "Each message is one envelope, signed once, that names all of its recipients. Everybody in it sees who else is.",
    ),
    el("ul.choices", {}, shown.members.map((member) => memberRow(model, member, close, hands))),
    forgetButton(model, shown, close),
  ]);
}

function memberRow(model, member, close, hands) {
  const open = () => {
    close();
    peer(model, member, hands);
  };
  const who = el("span.who", {}, el("span.name", {}, model.nameOf(member)), el("span.mono.faint", {}, format.shortKey(member)));
  return el("li", {}, el("button.row", { onclick: open, type: "button" }, avatar(member), who));
}

/** Tell about a peer: its id, our name for it, whether it is heard. */
export function peer(model, id, hands) {
  return openDialog(model.nameOf(id), (close) => {
    const claim = model.claimOf(id);
    const name = el("input", { autocomplete: "off", id: "contact-name", maxlength: 64, value: model.peers.get(id)?.name ?? "" });
    const save = async (event) => {
      event.preventDefault();
      await model.rename(id, name.value);
      close();
    };
    const ignored = el("input", { checked: model.isIgnored(id), id: "ignored", onchange: () => model.ignore(id, ignored.checked), type: "checkbox" });
    const write = () => {
      close();
      hands.openWith([id]);
    };
    return [
      idView(id),
      el(
        "form.field",
        { onsubmit: save },
        el("label", { for: "contact-name" }, "Your name for them"),
        el("div.inline", {}, name, el("button.button", {}, "Save")),
        el("p.hint", {}, claim ? `They call themselves “${claim}”. Anyone can: only the peer id says who it is.` : "Only you see it."),
      ),
      el("label.check", {}, ignored, el("span", {}, "Ignore", el("span.hint", {}, "What they write is taken from the relay and not shown or kept. They are not told."))),
      el("div.buttons", {}, el("button.button", { onclick: write, type: "button" }, "Write to them")),
      model.conversations.has(id) ? forgetButton(model, model.conversations.get(id), close) : null,
    ];
  });
}

function forgetButton(model, shown, close) {
  const forget = async () => {
    const text = "It is removed from this browser; others keep theirs.";
    if (await confirmed("Delete this conversation?", text, "Delete")) {
      close();
      await model.forget(shown);
    }
  };
  if (!model.conversations.has(shown.id)) return null;
  return el("div.buttons", {}, el("button.button.danger", { onclick: forget, type: "button" }, "Delete the conversation"));
}

const idView = (id) =>
  el("div.field", {}, el("span.label", {}, "Peer id"), el("p.id.mono", { tabindex: 0 }, id), el("div", {}, copyButton("Copy the peer id", id)));

// A message

/** Tell all about a message: of each recipient what has become of it, and the envelope itself. */
export function message(model, shown) {
  const { envelope, fates, mine } = shown;
  return openDialog("Message", () => [
    el("dl.facts", {}, ...facts(model, shown)),
    mine
      ? el("ul.fates", {}, Object.entries(fates).map(([to, fate]) => fateRow(model, to, fate)))
      : el("p.hint", {}, "Its signature was checked in this browser: the key above signed exactly this."),
    el("details", {}, el("summary", {}, "The signed envelope"), jsonView(envelope)),
  ]);
}

function facts(model, { envelope, name }) {
  const { from, id, timestamp, to, type } = envelope;
  const pairs = [
    ["From", `${model.nameOf(from)} ${from === model.me ? "" : format.shortKey(from)}`],
    ["To", to.map((one) => (one === "*" ? "everyone" : model.nameOf(one))).join(", ")],
    ["Signed", format.isShowable(timestamp) ? format.moment(timestamp) : String(timestamp)],
    ["Type", type],
    ["Id", id],
    ...(name ? [["Claimed name", name]] : []),
  ];
  return pairs.flatMap(([term, value]) => [el("dt", {}, term), el("dd", { dir: "auto" }, value)]);
}

function fateRow(model, to, fate) {
  const { is, words } = summaryOfOne(fate, model.isLive);
  const name = to === "*" ? "Everyone" : model.nameOf(to);
  return el("li", {}, el("span", {}, name), el("span.fate", { "data-is": is }, words));
}

// Ourselves

/** Tell who we are; change the name, copy the key, erase everything. */
export function self(model, hands) {
  return openDialog("You", (close) => {
    const name = el("input", { autocomplete: "nickname", id: "own-name", maxlength: 64, value: model.name });
    const save = async (event) => {
      event.preventDefault();
      await model.changeName(name.value.trim());
      close();
    };
    const erase = async () => {
      const text = model.keys.isOpen
        ? "Your key, all conversations and contacts are removed from this browser. There is no copy of the key: nobody will ever be this peer again."
        : "Your key, all conversations and contacts are removed from this browser. With the copy of the key you can be this peer again; the conversations are gone.";
      if (await confirmed("Erase everything?", text, "Erase")) await hands.erase();
    };
    return [
      idView(model.me),
      el(
        "form.field",
        { onsubmit: save },
        el("label", { for: "own-name" }, "Your name, as others see it"),
        el("div.inline", {}, name, el("button.button", {}, "Save")),
        el("p.hint", {}, "It is a claim and proves nothing; your key does."),
      ),
      keySection(model, hands),
      el("div.buttons", {}, el("button.button.danger", { onclick: erase, type: "button" }, "Erase this identity and its history")),
    ];
  });
}

function keySection(model, hands) {
  const section = el("section.key", { "aria-labelledby": "key-title" });
  const draw = () => section.replaceChildren(el("h3", { id: "key-title" }, "Your key"), ...(model.keys.isOpen ? openKey() : lockedKey()));
  const wrong = el("p.wrong", { role: "alert" });
  const download = async () => {
    try {
      await saveCopy(model);
      lock.hidden = false;
      lock.focus();
    } catch (error) {
      say(wrong, `The copy could not be made: ${error.message}`);
    }
  };
  const lock = el("button.button", { hidden: true, type: "button" }, "I have the file: lock the key");
  lock.addEventListener("click", async () => {
    await hands.lock();
    draw();
  });
  const openKey = () => [
    el("p", {}, "It exists in this browser only. If the browser’s data is cleared, nobody can be this peer again. Save a copy, and keep it as you keep passwords: whoever has the file is you."),
    el("div.buttons", {}, el("button.button.main", { onclick: download, type: "button" }, "Save a copy of the key"), lock),
    wrong,
  ];
  draw();
  return section;
}

const lockedKey = () => [
  el("p", {}, "The key is locked in this browser: it signs, and no page can read it any more, this one included. To be this peer elsewhere, use the copy that you have saved."),
];

async function saveCopy(model) {
  const contacts = [...model.peers.values()];
  const text = await copyOf({ contacts, keys: model.keys, name: model.name });
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { download: `agora-identity-${model.me.slice(-8)}.json`, href: url }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
