/** Writes the relay's figures into the page, touching only what has changed. */

import { avatar } from "../ui/avatar.js";
import { byId, el, reconcile, say } from "../ui/dom.js";
import * as format from "../ui/format.js";
import { printableName } from "../agora/text.js";
import { Chart } from "./chart.js";

/** Peers that are listed; of more it is said how many they are. */
const LISTED_PEERS = 100;

/** Errors that are listed. */
const LISTED_ERRORS = 50;

const SECONDS_PER_MINUTE = 60;

export class Board {
  #messages = new Chart(byId("messages-chart"), {
    least: 1,
    say: (value) => `${format.rate(value)} per second`,
    series: [
      { kind: "area", name: "accepted" },
      { kind: "line", name: "stored" },
    ],
    tick: format.rate,
    title: "Messages per second",
    whole: false,
  });
  #peers = new Chart(byId("peers-chart"), {
    least: 2,
    say: (value) => format.plural(value, "peer"),
    series: [{ kind: "area", name: "peers" }],
    tick: format.short,
    title: "Peers online",
    whole: true,
  });
  #errors = new Chart(byId("errors-chart"), {
    least: 2,
    say: (value) => `${format.plural(value, "error")} a minute`,
    series: [{ kind: "bars", name: "errors" }],
    tick: format.short,
    title: "Errors per minute",
    whole: true,
  });

  /** Show what `GET /admin/overview` gave. */
  show(overview) {
    showIdentity(overview);
    showTiles(overview);
    this.#showHour(overview.history);
    showPeers(overview);
    showMailboxes(overview.mailboxes, overview.now);
    showBars("outcomes", overview.totals.messages);
    showBars("codes", overview.totals.errors);
    showErrors(overview.recentErrors);
  }

  #showHour({ errors, messages, peers, step, stored, until }) {
    const from = until - messages.length * step * 1000;
    const perSecond = (counts) => counts.map((value) => value / step);
    const perMinute = SECONDS_PER_MINUTE / step;
    this.#messages.show({ from, step: step * 1000, values: [perSecond(messages), perSecond(stored)] });
    this.#peers.show({ from, step: step * 1000, values: [peers] });
    this.#errors.show({ from, step: SECONDS_PER_MINUTE * 1000, values: [sums(errors, perMinute)] });
  }
}

/** Add up each *size* neighbours. */
const sums = (values, size) =>
  Array.from({ length: Math.floor(values.length / size) }, (_, index) => sum(values.slice(index * size, (index + 1) * size)));

const sum = (values) => values.reduce((total, value) => total + value, 0);

function showIdentity({ now, relay, startedAt, version }) {
  const place = byId("relay");
  say(place, `${location.host} · ${format.shortKey(relay)} · version ${version}`);
  place.title = relay;
  say(byId("since"), `Started ${format.moment(startedAt)}, ${format.duration(now - startedAt)} ago`);
}

function showTiles({ connections, history, mailboxes, now, peersOnline, rates, sessions }) {
  say(byId("peers-now"), format.count(peersOnline));
  say(byId("peers-more"), `${format.plural(sessions, "session")}, ${format.plural(connections, "connection")}`);
  say(byId("messages-now"), format.rate(rates.messages));
  say(byId("messages-more"), `${format.plural(sum(history.messages), "message")} in the last hour, ${format.bytes(rates.bytes)}/s now`);
  say(byId("errors-now"), format.rate(rates.errors));
  say(byId("errors-more"), `${format.plural(sum(history.errors), "error")} in the last hour`);
  say(byId("mail-now"), mailboxes === null ? "?" : format.short(mailboxes.messages));
  say(byId("mail-more"), mailSummary(mailboxes, now));
}

function mailSummary(mailboxes, now) {
  if (mailboxes === null) return "the mailboxes could not be read";
  const { bytes, count, messages, oldestMs } = mailboxes;
  if (messages === 0) return "no mailbox holds anything";
  return `for ${format.plural(count, "peer")}, ${format.bytes(bytes)}, oldest ${format.duration(now - oldestMs)}`;
}

function showPeers({ now, peers, peersOnline }) {
  const listed = peers.slice(0, LISTED_PEERS);
  reconcile(byId("peers"), listed, (peer) => peer.publicKey, makePeer, (row, peer) => updatePeer(row, peer, now));
  byId("no-peers").hidden = peersOnline > 0;
  const rest = peersOnline - listed.length;
  say(byId("peers-rest"), rest > 0 && listed.length > 0 ? `and ${format.count(rest)} more` : "");
}

function makePeer({ publicKey }) {
  const name = el("span.name");
  const details = el("span.faint.details.numbers");
  return el("li", { title: publicKey }, avatar(publicKey), el("span.who", {}, name, details), el("span.door"));
}

function updatePeer(row, { door, name, publicKey, sessions, since }, now) {
  const key = format.shortKey(publicKey);
  const claimed = printableName(name);
  say(row.querySelector(".name"), claimed || key);
  const details = [claimed ? key : null, sessions > 1 ? format.plural(sessions, "session") : null, `for ${format.duration(now - since)}`];
  say(row.querySelector(".details"), details.filter(Boolean).join(" · "));
  say(row.querySelector(".door"), door === "http" ? "HTTP" : "WebSocket");
}

function showMailboxes(mailboxes, now) {
  if (mailboxes === null) return; // those of before stay; the figure above says that they are
  const { count, deadLetters = 0, largest } = mailboxes;
  const most = Math.max(1, ...largest.map(({ messages }) => messages));
  reconcile(tableBody("mailboxes"), largest, ({ peer }) => peer, makeMailbox, (row, box) => {
    fillCells(row, [format.count(box.messages), format.bytes(box.bytes), format.duration(now - box.oldestMs)]);
    setBar(row, box.messages / most);
  });
  showIfAny("mailboxes", largest.length);
  const rest = count - largest.length;
  const notes = [
    rest > 0 ? `and ${format.count(rest)} more, which hold less` : null,
    deadLetters > 0 ? `${format.plural(deadLetters, "dead letter")}: see agora mailbox dead` : null,
  ];
  say(byId("mailboxes-rest"), notes.filter(Boolean).join("; "));
}

const makeMailbox = ({ peer }) =>
  el("tr", {}, el("th", { class: "mono", scope: "row", title: peer }, format.shortKey(peer)), ...numberCells(3));

function showBars(id, totals) {
  const rows = Object.entries(totals).filter(([, value]) => value > 0).sort(([, one], [, other]) => other - one);
  const most = Math.max(1, ...rows.map(([, value]) => value));
  const make = ([name]) => el("tr", {}, el("th", { scope: "row" }, name.replaceAll("_", " ")), ...numberCells(1));
  reconcile(tableBody(id), rows, ([name]) => name, make, (row, [, value]) => {
    fillCells(row, [format.count(value)]);
    setBar(row, value / most);
  });
  showIfAny(id, rows.length);
}

function showErrors(recent) {
  const newest = recent.map((error, index) => ({ ...error, index })).sort((one, other) => other.at - one.at || other.index - one.index);
  const rows = newest.slice(0, LISTED_ERRORS);
  const keyOf = ({ at, code, index, peer }) => `${at} ${code} ${peer} ${index}`;
  reconcile(tableBody("errors"), rows, keyOf, makeError, () => {});
  showIfAny("errors", rows.length);
  byId("errors-scrolled").hidden = rows.length === 0;
}

const makeError = ({ at, code, peer, session }) =>
  el(
    "tr",
    {},
    el("th", { class: "numbers", scope: "row" }, format.timeToSecond(at)),
    el("td", {}, el("code", {}, code)),
    el("td.mono", { title: peer ?? undefined }, peer ? format.shortKey(peer) : "–"),
    el("td.mono", {}, session === null || session === undefined ? "–" : String(session)),
  );

// Tables

const tableBody = (id) => byId(id).tBodies[0];

const numberCells = (count) => Array.from({ length: count }, () => el("td.number.numbers"));

const fillCells = (row, texts) => texts.forEach((text, index) => say(row.cells[index + 1], text));

const setBar = (row, part) => row.style.setProperty("--part", `${(part * 100).toFixed(1)}%`);

function showIfAny(id, count) {
  byId(id).hidden = count === 0;
  byId(`no-${id}`).hidden = count > 0;
}
