// Numbers, sizes and times in the language of the page.

import { currentLanguage } from "../i18n.js";

const BITS = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
const BYTES = { en: ["B", "kB", "MB", "GB", "TB"], fr: ["o", "ko", "Mo", "Go", "To"] };
const SPANS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

export function number(value) {
  const digits = Math.abs(value) < 10 && !Number.isInteger(value) ? 1 : 0;
  return new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: digits }).format(value);
}

/** `bytes` a second as bits a second. */
export function bits(bytes) {
  return scaled(bytes * 8, BITS);
}

export function size(bytes) {
  return scaled(bytes, BYTES[currentLanguage()]);
}

function scaled(value, units) {
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${number(unit === 0 ? Math.round(value) : value)}\u00a0${units[unit]}`;
}

/** A span of time in its largest unit: “3 days”. */
export function span(seconds) {
  const [unit, length] = SPANS.find(([, one]) => seconds >= one) ?? SPANS.at(-1);
  const options = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 };
  return new Intl.NumberFormat(currentLanguage(), options).format(Math.floor(seconds / length));
}

/** A moment, as unix seconds, as a date and a time of day. */
export function moment(unix) {
  return new Date(unix * 1000).toLocaleString(currentLanguage(), { dateStyle: "medium", timeStyle: "short" });
}

/** A moment as a time of day, with its date when that is another than today's. */
export function clock(unix) {
  const date = new Date(unix * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? date.toLocaleTimeString(currentLanguage()) : moment(unix);
}
