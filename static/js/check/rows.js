// Findings as rows: what each says, in which list.

import { text } from "../i18n.js";
import { clauseKey, errorKey, valuesOf } from "./words.js";

const KINDS = { stun: "STUN", turn: "TURN" };

/** The title of a way, `[key, values]`. */
export function wayTitle({ kind, transport, port, family }) {
  const values = { kind: KINDS[kind], transport: transport.toUpperCase(), port };
  return [family ? `check.row.way.${family}` : "check.row.way", values];
}

/** Shows everything that has been found so far. `rows`: `{ server, network, ways }`. */
export function showFindings(rows, seen, findings) {
  for (const finding of findings) {
    if (finding.values?.way) showWay(rows.ways, finding);
    else if (finding.id === "outside") showOutside(rows.network, finding, findings, seen);
    else if (!finding.id.startsWith("passage-")) showServer(rows.server, finding, findings, seen);
  }
  const facts = seen.context?.facts;
  if (facts) {
    const detail = ["check.row.address.text", { address: facts.client }];
    rows.network.set("address", { level: "note", title: ["check.row.address"], detail });
  }
  if (seen.nat) {
    const level = seen.nat.kind === "unknown" ? "unknown" : "note";
    rows.network.set("nat", { level, title: ["check.row.nat"], detail: [`check.nat.${seen.nat.kind}`] });
  }
}

function showServer(rows, { id, level, cause, values }, findings, { signaling }) {
  const { ms = 0, rtt = 0 } = id === "signaling" ? signaling : {};
  const good = { open: ms, rtt: Math.round(rtt * 10) / 10 };
  const detail = cause ? [clauseKey(cause), valuesOf(cause, findings)] : [`check.row.${id}.good`, { ...values, ...good }];
  rows.set(id, { level, cause, title: [`check.row.${id}`], detail });
}

function showWay(rows, { level, cause, values: { way } }) {
  rows.set(way.url, { level, cause, title: wayTitle(way), detail: wayDetail(way), ms: way.ms });
}

function wayDetail(way) {
  const { kind, ok, host, seen } = way;
  if (!ok) return ["check.row.way.failed", { host, error: text(errorKey(way), { code: way.code, text: way.text }) }];
  if (!seen) return ["check.row.way.stun.same", { host }];
  const address = seen.address?.includes(":") ? `[${seen.address}]` : seen.address;
  return [`check.row.way.${kind}`, { host, address: kind === "turn" ? `${address}:${seen.port}` : address }];
}

function showOutside(rows, { level, cause, why, values }, findings, { context }) {
  const detail = cause
    ? [clauseKey(cause), valuesOf(cause, findings, context.facts)]
    : [level === "good" ? "check.row.outside.good" : `check.row.outside.untested.${why}`, values];
  rows.set("outside", { level: level === "note" ? "unknown" : level, cause, title: ["check.row.outside"], detail });
}
