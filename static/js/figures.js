// The figures of each connection, with small charts of the last minute and a half: one card per person.

import { sparkline } from "./chart.js";
import { addTexts, currentLanguage, label, say, text } from "./i18n.js";
import texts from "./lang/figures.js";
import { icon } from "./notices.js";

addTexts(texts);

/** What is drawn, from a peer's figures: values (one per line; two are in and out), and the words of each. */
const ROWS = [
  { key: "figures.rate", lines: 2, values: ({ figures }) => [figures.in, figures.out], word: rate },
  { key: "figures.time", lines: 1, values: ({ roundTrip }) => [inMilliseconds(roundTrip)], word: milliseconds },
  { key: "figures.loss", lines: 2, values: ({ figures }) => [figures.lossIn, figures.lossOut], word: percent },
];
const DIRECTIONS = ["in", "out"];
const PICTURES = ["shown", "sent"];

/** Cards in `list`, one for each peer of `update`. */
export class Figures {
  #list;
  #options;
  #cards = new Map();

  /**
   * `nameOf` says how a peer is called; `only`: `in` or `out`, where media goes one way; `remove` is called with the peer
   * whose card's button for that is pressed, and without it there is none.
   */
  constructor(list, { nameOf = (peer) => peer.name || text("someone"), only = null, remove = null } = {}) {
    this.#list = list;
    this.#options = { nameOf, side: DIRECTIONS.indexOf(only), remove };
  }

  /** Brings every card up to date; a new reading of a peer moves its charts on. Returns how many cards there are. */
  update(peers) {
    const seen = new Set();
    for (const peer of peers) {
      if (!peer.figures) continue;
      seen.add(peer);
      if (!this.#cards.has(peer)) this.#add(peer);
      this.#cards.get(peer).update();
    }
    for (const [peer, card] of this.#cards) {
      if (seen.has(peer)) continue;
      card.element.remove();
      this.#cards.delete(peer);
    }
    return this.#cards.size;
  }

  #add(peer) {
    const card = makeCard(peer, this.#options);
    this.#cards.set(peer, card);
    this.#list.append(card.element);
  }
}

/** Makes the buttons, the badge and the key (Alt+S) open the panel, and saves `log`; only while `inCall()`. */
export function wireFigures(log, inCall) {
  const byId = (id) => document.getElementById(id);
  const [panel, button] = [byId("figures"), byId("open-figures")];
  const show = (shown) => {
    panel.hidden = !shown;
    button.setAttribute("aria-pressed", String(shown));
  };
  const toggle = () => show(panel.hidden);
  for (const id of ["open-figures", "badge"]) byId(id).addEventListener("click", toggle);
  byId("close-figures").addEventListener("click", () => {
    show(false);
    button.focus();
  });
  byId("show-figures")?.addEventListener("click", (event) => {
    event.target.closest("dialog").close();
    show(true);
    byId("close-figures").focus();
  });
  for (const one of document.querySelectorAll("[data-save-log]")) one.addEventListener("click", () => log.save());
  addEventListener("keydown", (event) => {
    if (!event.altKey || event.ctrlKey || event.metaKey || event.code !== "KeyS" || !inCall()) return;
    event.preventDefault();
    toggle();
  });
}

function makeCard(peer, { nameOf, side, remove }) {
  const element = make("article", "figures-card");
  const head = make("header", "", element);
  const name = make("h3", "", head);
  const way = make("span", "way", head);
  const button = remove && removeButton(head, () => remove(peer));
  const rows = ROWS.map((row) => makeRow(oneSide(row, side), element));
  const picture = make("dl", "figures-pictures", element);
  const pictures = PICTURES.filter((_, index) => side < 0 || index === side).map((key) => {
    say(make("dt", "", picture), side < 0 ? `figures.${key}` : "figures.picture");
    return [key, make("dd", "", picture)];
  });
  let drawn = null;
  return {
    element,
    update() {
      name.textContent = nameOf(peer);
      if (button) label(button, "control.kick", { name: nameOf(peer) });
      way.hidden = !peer.route;
      way.dataset.route = peer.route?.kind ?? "";
      way.textContent = peer.route ? routeText(peer.route) : "";
      for (const row of rows) row.update(peer, drawn !== peer.figures);
      for (const [key, value] of pictures) value.textContent = size(peer.figures[key]);
      drawn = peer.figures;
    },
  };
}

function removeButton(parent, pressed) {
  const button = make("button", "remove", parent);
  button.type = "button";
  button.append(icon("remove"));
  button.addEventListener("click", pressed);
  return button;
}

/** The row of one direction alone, where there is but one. */
function oneSide(row, side) {
  if (side < 0 || row.lines === 1) return row;
  return { ...row, lines: 1, values: (peer) => [row.values(peer)[side]] };
}

function makeRow({ key, lines, values, word }, parent) {
  const words = lines === 2 ? inAndOut(word) : ([only]) => word(only);
  const row = make("div", "figures-row", parent);
  say(make("span", "figures-name", row), key);
  const value = make("span", "figures-value", row);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "chart");
  row.append(svg);
  let last = Array(lines).fill(null);
  const chart = sparkline(svg, { series: lines, name: () => `${text(key)}: ${words(last)}` });
  return {
    update(peer, isNew) {
      last = values(peer);
      value.textContent = words(last);
      if (isNew) chart.push(...last);
    },
  };
}

function make(tag, name, parent = null) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  parent?.append(element);
  return element;
}

/** Which way a call takes, in words. */
export function routeText(route) {
  if (route.kind !== "relay") return text(`route.${route.kind}`);
  if (route.transports.length === 0) return text("route.relay");
  return text("route.relay.over", { transports: route.transports.map((one) => one.toUpperCase()).join(text("route.and")) });
}

function inAndOut(words) {
  return ([received, sent]) => text("figures.both", { in: words(received), out: words(sent) });
}

const inMilliseconds = (seconds) => (seconds === null || seconds === undefined ? null : seconds * 1_000);

function number(value, digits) {
  return value.toLocaleString(currentLanguage(), { maximumFractionDigits: digits });
}

/** Bits per second, in words. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value < 1_000_000 ? `${number(value / 1_000, 0)} kbit/s` : `${number(value / 1_000_000, 1)} Mbit/s`;
}

/** A part of 1, in words. */
export function percent(value) {
  return value === null || value === undefined ? "–" : `${number(value * 100, 1)} %`;
}

export function milliseconds(value) {
  return value === null || value === undefined ? "–" : `${number(value, value < 10 ? 1 : 0)} ms`;
}

function size(picture) {
  if (!picture) return "–";
  const words = text("figures.size", { ...picture, rate: number(picture.rate, 0) });
  return ["cpu", "bandwidth"].includes(picture.limited) ? `${words} (${text(`figures.limited.${picture.limited}`)})` : words;
}
