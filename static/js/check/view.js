// The page's lists: a row for each finding, three cards for the calls through the relay. Everything follows the language.

import { sparkline } from "../chart.js";
import { currentLanguage, label, say, text } from "../i18n.js";
import { TRANSPORTS } from "./run.js";

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** A picture of the page's own sprite. */
function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A list of rows, each known by its id. */
export class Rows {
  #list;
  #rows = new Map();

  constructor(list) {
    this.#list = list;
  }

  /** `{ level, title: [key, values], detail?: [key, values], ms?, cause? }`. */
  set(id, { level, title, detail = null, ms = null, cause = null }) {
    const row = this.#rows.get(id) ?? this.#add(id);
    delete row.item.dataset.expected;
    row.item.dataset.level = level;
    row.item.dataset.cause = cause ?? "";
    row.use.setAttribute("href", `#icon-${level}`);
    say(row.title, ...title);
    say(row.mark, `check.mark.${level}`);
    if (detail) say(row.detail, ...detail);
    row.detail.hidden = !detail;
    if (ms !== null) say(row.time, "check.ms", { value: ms });
    row.time.hidden = ms === null;
  }

  clear() {
    this.#rows.clear();
    this.#list.replaceChildren();
  }

  /** Keeps a row's place until it is set: what is read below it stays where it is. */
  expect(id) {
    this.set(id, { level: "unknown", title: [`check.row.${id}`], detail: ["check.quality.wait"] });
    this.#rows.get(id).item.dataset.expected = "";
  }

  /** Nothing more comes: what was expected and never set goes. */
  settle() {
    for (const [id, { item }] of this.#rows) {
      if (!("expected" in item.dataset)) continue;
      item.remove();
      this.#rows.delete(id);
    }
  }

  #add(id) {
    const item = document.createElement("li");
    item.dataset.id = id;
    const picture = icon("running");
    const words = document.createElement("div");
    const make = (tag, name) => Object.assign(document.createElement(tag), { className: name });
    const row = {
      item,
      use: picture.firstChild,
      title: make("b", ""),
      mark: make("span", "hidden-text"),
      detail: make("p", "detail"),
      time: make("time", ""),
    };
    words.append(row.title, " ", row.mark, row.detail);
    item.append(picture, words, row.time);
    this.#list.append(item);
    this.#rows.set(id, row);
    return row;
  }
}

/** A number as people of this language write it. */
export function number(value, digits = 0) {
  return value.toLocaleString(currentLanguage(), { maximumFractionDigits: digits });
}

/** The figures of a measurement in words; `null` where there is none. */
export function figureWords({ rtt = null, jitter = null, loss = null, mbps = null, connect = null }) {
  const words = (key, value, digits) => (value === null ? null : text(key, { value: number(value, digits) }));
  return {
    rtt: words("check.ms", rtt, rtt < 10 ? 1 : 0),
    jitter: words("check.ms", jitter, 1),
    loss: words("check.percent", loss === null ? null : loss * 100, 1),
    rate: words("check.mbps", mbps, mbps < 10 ? 1 : 0),
    connect: words("check.ms", connect),
  };
}

/** The cards of the calls through the relay. */
export class Qualities {
  #cards = new Map();

  constructor(box, template) {
    for (const transport of TRANSPORTS) {
      const card = template.content.cloneNode(true).firstElementChild;
      card.id = `quality-${transport}`;
      card.querySelector("h3").textContent = transport.toUpperCase();
      const chart = (name, key) => {
        const svg = card.querySelector(`[data-chart=${name}]`);
        return sparkline(svg, { points: name === "rtt" ? 100 : 24, label: () => text(key), format: (value) => number(value, 1) });
      };
      const charts = { rtt: chart("rtt", "check.quality.rtt"), rate: chart("rate", "check.quality.rate") };
      box.append(card);
      this.#cards.set(transport, { card, charts, port: null, result: null });
    }
  }

  clear() {
    for (const [transport, one] of this.#cards) {
      Object.assign(one, { port: null, result: null });
      one.charts.rtt.clear();
      one.charts.rate.clear();
      this.#become(transport, "wait", "check.quality.wait");
    }
  }

  /** A figure of the call that is under way. */
  tell(transport, what, value) {
    const { card, charts } = this.#cards.get(transport);
    card.dataset.state = "running";
    card.querySelector(".state").hidden = true;
    card.querySelector(".figures").hidden = false;
    charts[what]?.push(value);
    const words = figureWords(what === "rate" ? { mbps: value } : what === "rtt" ? { rtt: value } : { connect: value });
    this.#write(card, words);
  }

  /** The result of one transport; `null`: there is no way by it, or it was not tried. */
  set(transport, result, isStopped = false) {
    const one = this.#cards.get(transport);
    one.result = result;
    one.card.querySelector("h3").textContent = result ? `${transport.toUpperCase()} ${result.port}` : transport.toUpperCase();
    if (!result) return this.#become(transport, "none", isStopped ? "check.quality.untested" : "check.quality.none");
    if (!result.ok) return this.#become(transport, "failed", "check.quality.lost");
    one.card.dataset.state = "good";
    one.card.querySelector(".state").hidden = true;
    one.card.querySelector(".figures").hidden = false;
    this.#write(one.card, figureWords(result));
  }

  /** In the language of the page. */
  translate() {
    for (const { card, result } of this.#cards.values()) if (result?.ok) this.#write(card, figureWords(result));
  }

  #become(transport, state, key) {
    const { card } = this.#cards.get(transport);
    card.dataset.state = state;
    const words = card.querySelector(".state");
    say(words, key);
    words.hidden = false;
    card.querySelector(".figures").hidden = true;
    for (const figure of card.querySelectorAll("[data-figure]")) figure.textContent = "–";
  }

  #write(card, words) {
    for (const [name, value] of Object.entries(words)) {
      if (value !== null) card.querySelector(`[data-figure=${name}]`).textContent = value;
    }
  }
}

/** The progress bar, from 0 to 1, and its name. */
export function showProgress(part) {
  const bar = byId("progress");
  bar.hidden = part >= 1;
  bar.value = Math.round(part * 100);
  label(bar, "check.running");
}
