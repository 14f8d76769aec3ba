/** Numbers, sizes and times as people read them, in the browser's own language of numbers. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { maximumFractionDigits: 1, notation: "compact" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", hourCycle: "h23", minute: "2-digit" });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { hourCycle: "h23", timeStyle: "medium" });
const dayAndMonth = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDay = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const complete = new Intl.DateTimeFormat(undefined, { dateStyle: "long", hourCycle: "h23", timeStyle: "medium" });

/** 1234567 → "1,234,567". */
export const count = (number) => whole.format(number);

/** 1234567 → "1.2M", for where there is little room. */
export const short = (number) => (number < 10_000 ? count(number) : compact.format(number));

/** A rate per second: "0", "0.3", "12", "1.2K". */
export function rate(perSecond) {
  if (perSecond === 0) return "0";
  if (perSecond < 0.05) return "<0.1";
  return perSecond < 10 ? perSecond.toFixed(1).replace(/\.0$/, "") : short(Math.round(perSecond));
}

/** 4096 → "4.1 kB". */
export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(number, 1)) / 3));
  const value = number / 1000 ** power;
  return `${power > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

/** Milliseconds in the one or two units that matter: "42 s", "3 min", "2 h 5 min", "4 days". */
export function duration(ms) {
  if (ms < MINUTE) return `${Math.max(0, Math.floor(ms / SECOND))} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  const minutes = Math.floor((ms % HOUR) / MINUTE);
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h${minutes > 0 ? ` ${minutes} min` : ""}`;
  const days = Math.floor(ms / DAY);
  return days === 1 ? "1 day" : `${days} days`;
}

/** The time of day: "14:05". */
export const timeOfDay = (ms) => clock.format(ms);

/** The time of day to the second. */
export const timeToSecond = (ms) => clockWithSeconds.format(ms);

/** A time, complete. */
export const moment = (ms) => complete.format(ms);

/** When it was, as short as it can be said: a time of today, else a day. */
export const when = (ms, now = Date.now()) => (isSameDay(ms, now) ? timeOfDay(ms) : dayAndMonth.format(ms));

/** The day of a time, in words. */
export function dayOf(ms, now = Date.now()) {
  if (isSameDay(ms, now)) return "Today";
  return isSameDay(ms, now - DAY) ? "Yesterday" : longDay.format(ms);
}

/** Tell whether two times are of one day, here. */
export const isSameDay = (one, other) => new Date(one).toDateString() === new Date(other).toDateString();

/** Tell whether a time can be shown: a stranger's clock may say anything. */
export const isShowable = (ms) => Math.abs(ms) <= 8.64e15;

/** How people write a peer id: its last eight digits behind an at. */
export const shortKey = (peerId) => `@${peerId.slice(-8)}`;

/** "1 message", "2 messages". */
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
