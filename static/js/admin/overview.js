// The figures of the moment with their charts: rates are made of two tellings of the counters.

import { sparkline } from "../chart.js";
import { say, text } from "../i18n.js";
import { bits, number, size } from "./words.js";

/** Seconds that a chart shows. */
const POINTS = 60;

/**
 * The cards. `rates`: names of counters, each a line of the chart, shown as a rate; `values`: plain figures. `shown` makes
 * the large number of them, `more` the line below.
 */
const CARDS = [
  {
    id: "traffic", format: bits,
    rates: (now) => [now.toPeer.bytes, now.toClient.bytes],
    more: ([up, down], now) => text("admin.card.traffic-more", {
      up: bits(up), down: bits(down), sum: size(now.toPeer.bytes + now.toClient.bytes),
    }),
  },
  {
    id: "packets", format: number,
    rates: (now) => [now.toPeer.packets + now.toClient.packets],
    more: (_, now) => text("admin.card.since-start", { count: number(now.toPeer.packets + now.toClient.packets) }),
  },
  {
    id: "allocations", format: number,
    values: (now) => [now.allocations],
    more: (_, now) => Object.entries(now.relayed).map(([name, count]) => `${name.toUpperCase()} ${number(count)}`).join(" · "),
  },
  {
    id: "peers", format: number,
    values: (now) => [now.peers ?? null],
    more: (_, now) => text("admin.card.peers-more", { rooms: number(now.rooms ?? 0), streams: number(now.streams ?? 0), lost: number(now.lost ?? 0) }),
  },
  {
    id: "messages", format: number,
    rates: (now) => [now.messages.in, now.messages.out],
    more: (_, now) => text("admin.card.messages-more", { connections: number(now.connections) }),
  },
  {
    id: "refusals", format: number,
    rates: (now) => [sum(Object.values(now.refused))],
    more: (_, now) => reasons(now.refused),
  },
  {
    id: "strangers", format: number,
    rates: (now) => [now.strangers.replies],
    more: (_, now) => text("admin.card.strangers-more", { ratio: number(now.amplification) }),
  },
  {
    id: "load", format: (value) => `${number(value)}\u00a0%`, max: 100,
    loads: (now) => now.shards.map((shard) => shard.seconds * 100),
    more: (_, now) => text("admin.card.load-more", { count: number(now.shards.length) }),
  },
];

const cards = new Map();
let before = null;

const sum = (list) => list.reduce((total, one) => total + one, 0);

/** The reasons that weigh most. */
function reasons(refused) {
  const most = Object.entries(refused).filter(([, count]) => count > 0).sort(([, one], [, other]) => other - one).slice(0, 3);
  if (most.length === 0) return text("admin.card.refusals-none");
  return most.map(([name, count]) => `${reason(name)} ${number(count)}`).join(" · ");
}

function reason(name) {
  if (!name.includes(".")) return text(`admin.reason.${name}`);
  const [method, code] = name.split(".");
  return `${method} ${code}`;
}

/** Forgets what came before: a rate over a pause says nothing. */
export function clearOverview() {
  before = null;
  for (const { chart } of cards.values()) chart.clear();
}

export function showFigures(now) {
  if (before && now.at <= before.at) before = null;
  for (const card of CARDS) {
    const shown = cards.get(card.id) ?? make(card);
    const values = measure(card, now);
    shown.chart.push(...values);
    const total = card.loads ? Math.max(...values) : sum(values);
    shown.value.textContent = values.some((value) => value === null) ? "–" : card.format(total);
    const more = card.more(values.map((value) => value ?? 0), now);
    if (shown.more.textContent !== more) shown.more.textContent = more;
    if (card.loads) showBars(shown, values);
  }
  before = now;
}

/** The values to show now; `null` where two tellings are needed and only one was there. */
function measure(card, now) {
  if (card.values) return card.values(now);
  const take = card.rates ?? card.loads;
  const counts = take(now);
  if (!before) return counts.map(() => null);
  const seconds = (now.at - before.at) / 1000;
  const earlier = take(before);
  return counts.map((count, index) => Math.max(0, count - (earlier[index] ?? count)) / seconds);
}

function make(card) {
  const item = document.createElement("li");
  item.className = "figure";
  item.id = `card-${card.id}`;
  item.innerHTML = `<h3></h3><p class="value">–</p><p class="more"></p>`;
  const [title, value, more] = item.children;
  say(title, `admin.card.${card.id}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.classList.add("chart");
  item.append(svg);
  document.getElementById("cards").append(item);
  const series = card.id === "traffic" || card.id === "messages" ? 2 : 1;
  // One line for all threads: the busiest, which is the one that decides.
  const chart = sparkline(svg, { points: POINTS, series, max: card.max ?? null, format: card.format, label: () => text(`admin.card.${card.id}`) });
  const push = card.loads ? (...values) => chart.push(values.some((one) => one === null) ? null : Math.max(...values)) : chart.push;
  const shown = { value, more, chart: { push, clear: chart.clear }, item, bars: [] };
  cards.set(card.id, shown);
  return shown;
}

/** One bar for each thread. */
function showBars(shown, values) {
  while (shown.bars.length < values.length) {
    const bar = document.createElement("meter");
    bar.max = 100;
    bar.high = 85;
    bar.setAttribute("aria-label", text("admin.card.thread", { number: shown.bars.length + 1 }));
    shown.item.append(bar);
    shown.bars.push(bar);
  }
  shown.bars.forEach((bar, index) => (bar.value = values[index] ?? 0));
}
