// What the page says: the verdict in one sentence, and a line for each finding.

import { text } from "../i18n.js";

const TRANSPORTS = { udp: "UDP", tcp: "TCP", tls: "TLS" };

/** `UDP`, `TCP 443`: UDP needs no port to be told from others. */
export function wayName({ transport, port }) {
  return transport === "udp" ? TRANSPORTS.udp : `${TRANSPORTS[transport]} ${port}`;
}

/** `UDP 3478`. */
export function portName({ transport, port }) {
  return `${TRANSPORTS[transport]} ${port}`;
}

/** More than this many ports are not named one by one. */
const NAMED = 3;

/** `a, b and c` in the language of the page. */
export function list(items) {
  const all = [...new Set(items)];
  return all.length < 2 ? (all[0] ?? "") : `${all.slice(0, -1).join(", ")}${text("route.and")}${all.at(-1)}`;
}

function few(items) {
  const all = [...new Set(items)];
  return all.length > NAMED ? `${all.slice(0, NAMED).join(", ")}…` : list(all);
}

/** The verdict: `{ title, remedy }`. */
export function verdictWords({ status, causes, works }, findings, facts) {
  if (status === "good") return { title: text("check.verdict.good", { ways: list(works.map(({ transport }) => TRANSPORTS[transport])) }), remedy: text("check.verdict.good.remedy") };
  const [cause] = causes;
  if (!cause) return { title: text("check.verdict.nothing"), remedy: text("check.remedy.other") };
  const values = valuesOf(cause, findings, facts);
  const clause = text(clauseKey(cause, facts), values);
  return { title: `${clause}${text("check.then")}${outcome(status, cause, works)}`, remedy: text(`check.remedy.${cause}`, values) };
}

/** What calls can do all the same. */
function outcome(status, cause, works) {
  if (status === "broken") return text("check.outcome.broken");
  if (cause === "wrong-public-address" || cause === "relay-range-firewalled") return text("check.outcome.both-relayed");
  return text("check.outcome.works", { ways: waysWords(works) });
}

/** One way says it: UDP where it is there, else TCP before TLS, as browsers choose. */
function waysWords(works) {
  const ways = ["udp", "tcp", "tls"].map((transport) => bestPort(works.filter((way) => way.transport === transport)));
  return wayName(ways.find(Boolean));
}

/** 443 gets through where nothing else does. */
function bestPort(ways) {
  return ways.find(({ port }) => port === 443) ?? ways[0];
}

/** A cause as a clause. Who blocks UDP is known when others have come through. */
export function clauseKey(cause, facts) {
  if (cause === "udp-blocked" && facts?.udpReached === true) return "check.cause.udp-blocked.here";
  return `check.cause.${cause}`;
}

/** What a cause's words speak of: the ports it was seen on, the address, the range. */
export function valuesOf(cause, findings, facts) {
  const those = findings.filter((one) => one.cause === cause);
  const ports = those.flatMap(({ values }) => (values?.way ? [portName(values.way)] : []));
  const [first, last] = facts?.relayPorts ?? ["", ""];
  return {
    ports: few(ports),
    udp: few(ports.filter((name) => name.startsWith("UDP"))),
    address: those.find(({ values }) => values?.address)?.values.address ?? "",
    seconds: those.find(({ values }) => values?.seconds)?.values.seconds ?? "",
    range: `UDP ${first}-${last}`,
  };
}

/** An icecandidateerror, in words. */
export function errorKey({ code, ok }) {
  if (ok) return null;
  const known = [-1, 0, 300, 400, 401, 403, 437, 438, 441, 442, 443, 486, 500, 508, 600, 701];
  return `check.error.${known.includes(code) ? code : "other"}`;
}
