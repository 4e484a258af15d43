// From what was seen to causes, by the words of `relais check --json` (src/cli/check/cause.rs). No DOM.
//
// A finding: `{ id, level, cause?, values? }`, level `good`, `warning`, `failed`, `note` or `unknown`.

/** Clocks may differ by this many seconds before anybody notices. */
const MAX_SKEW = 30;
/** More loss than this is heard and seen. */
const MAX_LOSS = 0.05;

/**
 * Every cause that this page names, the worst first: it is the one that the verdict speaks of. Those that a shell cannot
 * see have no counterpart in `relais check`.
 */
export const CAUSES = [
  "no-answer",
  "token-refused",
  "websocket-blocked",
  "credential-expired",
  "credential-wrong",
  "quota-reached",
  "out-of-ports",
  "no-relay",
  "wrong-public-address",
  "relay-range-firewalled",
  "relay-lost",
  "udp-blocked",
  "port-closed",
  "turn-filtered",
  "certificate-untrusted",
  "packet-loss",
  "clock-skew",
  "no-route",
  "other",
];

/** Causes that `relais check` does not have: it sees no WebSocket and no filter that lets pages through. */
export const PAGE_ONLY = ["websocket-blocked", "turn-filtered"];

/** How a browser names the answers of a TURN server. */
const REFUSALS = new Map([
  [300, "other"],
  [403, "other"],
  [486, "quota-reached"],
  [508, "out-of-ports"],
]);

/** The cause behind one way that failed, seen beside all `ways`. `context`: `{ facts, username, now, pageHost, pagePort }`. */
export function causeOf(way, ways, context) {
  if (way.code === 401) return credentialCause(context);
  if (REFUSALS.has(way.code)) return REFUSALS.get(way.code);
  if (way.code > 0 && way.code < 700) return "other";
  if (way.code < 0) return "other";
  return silence(way, ways, context);
}

/** 401 to a fresh credential: a time-limited username tells by itself whether it is too old for the server's clock. */
function credentialCause({ username, now }) {
  const expiry = Number(/(?:^|:)(\d{10,11})(?::|$)/.exec(username ?? "")?.[1] ?? Number.NaN);
  return expiry <= now ? "credential-expired" : "credential-wrong";
}

/** Nothing came back, or the connection was refused. */
function silence(way, ways, { facts, pageHost, pagePort }) {
  const here = ways.filter(({ host }) => host === way.host);
  const lives = (wanted) => here.some((other) => wanted(other) && isAlive(other));
  const isPageHost = way.host === pageHost;
  const anyTcp = isPageHost || lives(({ transport }) => transport !== "udp");
  // Another address of the same server works and this one does not at all: this network has no way to it.
  if (!isPageHost && !lives(() => true) && ways.some(isAlive)) return "no-route";
  if (way.transport === "udp") {
    if (way.kind === "turn" && lives((other) => other.kind === "stun" && other.port === way.port)) return "no-relay";
    if (lives(({ transport }) => transport === "udp")) return "port-closed";
    if (!anyTcp) return "no-answer";
    return isClosedForAll(way, here, facts, pageHost, pagePort) ? "port-closed" : "udp-blocked";
  }
  const samePort = ({ transport, port }) => transport === "tcp" && port === way.port;
  if (way.transport === "tls" && lives(samePort)) return "certificate-untrusted";
  if (isPageHost && way.port === pagePort) {
    return way.transport === "tls" && facts?.certificatePublic === false ? "certificate-untrusted" : "turn-filtered";
  }
  return anyTcp || lives(() => true) ? "port-closed" : "no-answer";
}

/** A server that refuses a credential has been reached. */
function isAlive({ ok, code }) {
  return ok || (code >= 300 && code < 700);
}

/**
 * The whole port is closed, over UDP and TCP, and no visitor was ever answered over UDP: then it is the server's side.
 * Where others were, it is the network here, which lets few ports through.
 */
function isClosedForAll(way, here, facts, pageHost, pagePort) {
  const same = here.filter(({ transport, port }) => transport === "tcp" && port === way.port);
  const isOpen = same.some(isAlive) || (way.host === pageHost && way.port === pagePort);
  return facts?.udpReached === false && same.length > 0 && !isOpen;
}

/** The cause behind the test between the relay and the world; `null` when it went well or was not made. */
export function outsideCause(outside, facts, pageHost) {
  const address = outside?.relayed?.address;
  if (!address) return null;
  if (outside.state === "ok") return outside.remote === "prflx" ? "wrong-public-address" : null;
  if (outside.state !== "failed") return null;
  // Packets of the relay came, but under another address than it gives out.
  if (outside.asked > 0) return outside.remote === "prflx" ? "wrong-public-address" : "relay-range-firewalled";
  return isForeign(address, facts, pageHost) ? "wrong-public-address" : "relay-range-firewalled";
}

/** Is the relayed address another one than that at which this page reaches the server? */
function isForeign(address, facts, pageHost) {
  const reached = facts?.address ?? (/^[\d.]+$|^\[/.test(pageHost) ? pageHost.replace(/^\[|\]$/g, "") : null);
  const isSameFamily = reached && reached.includes(":") === address.includes(":");
  if (isSameFamily) return reached !== address;
  return isPrivate(address) && Boolean(facts?.client) && !isPrivate(facts.client);
}

/** Addresses that mean nothing on the internet. */
export function isPrivate(address) {
  if (address.includes(":")) return /^(f[cd]|fe[89ab]|::1?$)/i.test(address);
  return /^(0|10|127|169\.254|192\.168|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./.test(address);
}

/** All findings of a check. `seen`: what the parts of the check gave, as far as it got. */
export function findingsOf(seen) {
  return [...serverFindings(seen), ...wayFindings(seen), ...outsideFindings(seen), ...passageFindings(seen)];
}

function serverFindings({ ice, signaling }) {
  const findings = [];
  if (ice) {
    const cause = ice.ok ? null : ice.code === "no-answer" ? "no-answer" : "token-refused";
    findings.push(finding("ice", cause, { code: ice.code ?? "" }));
  }
  if (signaling) findings.push(finding("signaling", signaling.ok ? null : "websocket-blocked"));
  if (ice?.ok && ice.skew !== null) {
    const cause = Math.abs(ice.skew) > MAX_SKEW ? "clock-skew" : null;
    findings.push({ ...finding("clock", cause, { seconds: Math.abs(ice.skew) }), ...(cause ? { level: "warning" } : {}) });
  }
  return findings;
}

function wayFindings({ ways = [], context }) {
  return ways.map((way) => {
    const cause = way.ok ? null : causeOf(way, ways, context);
    const level = cause === "no-route" ? { level: "note" } : {};
    return { ...finding(way.url, cause, { way }), ...level };
  });
}

function outsideFindings({ outside, context }) {
  if (!outside) return [];
  const cause = outsideCause(outside, context.facts, context.pageHost);
  if (!cause && outside.state !== "ok") return [{ id: "outside", level: "note", why: outside.why ?? "unknown" }];
  return [finding("outside", cause, { address: outside.relayed?.address ?? "" })];
}

function passageFindings({ passages = {} }) {
  return Object.entries(passages).map(([transport, result]) => {
    const cause = !result.ok ? "relay-lost" : result.loss > MAX_LOSS ? "packet-loss" : null;
    return finding(`passage-${transport}`, cause, { transport });
  });
}

function finding(id, cause, values = {}) {
  return cause ? { id, level: "failed", cause, values } : { id, level: "good", values };
}

/**
 * The whole: `{ status, causes, works }`. Status `good`, `degraded` (a relayed call is possible, but something fails) or
 * `broken`; causes the worst first; works: the ways through the relay, as `{ transport, port }`.
 */
export function judge(findings) {
  const named = new Set(findings.filter(({ level }) => level === "failed" || level === "warning").map(({ cause }) => cause));
  const causes = CAUSES.filter((cause) => named.has(cause));
  const turns = findings.filter(({ values }) => values?.way?.kind === "turn");
  const works = turns.filter(({ level }) => level === "good").map(({ values: { way } }) => way);
  const carries = works.length > 0 && !causes.includes("websocket-blocked") && !lostEverywhere(findings);
  const status = carries ? (causes.length > 0 ? "degraded" : "good") : "broken";
  return { status, causes, works: unique(works) };
}

/** Allocations are made, and nothing passes any of them. */
function lostEverywhere(findings) {
  const passages = findings.filter(({ id }) => id.startsWith("passage-"));
  return passages.length > 0 && passages.every(({ cause }) => cause === "relay-lost");
}

function unique(ways) {
  const known = new Set();
  return ways.filter(({ transport, port }) => {
    const key = `${transport} ${port}`;
    return !known.has(key) && known.add(key);
  });
}
