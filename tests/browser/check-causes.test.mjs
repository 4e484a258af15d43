// The check page's judgement, by itself: what was seen on one side, the cause on the other.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CAUSES, PAGE_ONLY, causeOf, findingsOf, isPrivate, judge, outsideCause } from "../../static/js/check/cause.js";
import { summary } from "../../static/js/check/measure.js";
import { shorten } from "../../static/js/check/report.js";
import { bestWay } from "../../static/js/check/run.js";
import { kindOf, parseUrl, waysIn } from "../../static/js/check/ways.js";

const GOOD = { ok: true };
const SILENT = { ok: false, code: 0 };
const REFUSED = { ok: false, code: 701 };
const FACTS = { udpReached: true, certificatePublic: true, client: "198.51.100.1", address: "203.0.113.10" };
const CONTEXT = { facts: FACTS, username: "1700000000:t.x", now: 1_690_000_000, pageHost: "h", pagePort: 443 };

const way = (url, result) => ({ ...parseUrl(url), ...result });
const stun = (result, host = "h") => way(`stun:${host}:3478`, result);
const udp = (result, host = "h") => way(`turn:${host}:3478?transport=udp`, result);
const tcp = (result, port = 3478, host = "h") => way(`turn:${host}:${port}?transport=tcp`, result);
const tls = (result, port = 3478, host = "h") => way(`turns:${host}:${port}?transport=tcp`, result);

/** The cause of the first way, seen beside the others. */
const cause = (ways, context = {}) => causeOf(ways[0], ways, { ...CONTEXT, ...context });

test("the words for causes are those of relais check", () => {
  const source = readFileSync(new URL("../../src/cli/check/cause.rs", import.meta.url), "utf8");
  const [, names] = /pub enum Cause \{([^}]*)\}/.exec(source);
  const known = [...names.matchAll(/[A-Z]\w+/g)].map(([name]) => name.replace(/\B[A-Z]/g, (one) => `-${one}`).toLowerCase());
  assert.ok(known.includes("udp-blocked"));
  assert.deepEqual(CAUSES.filter((one) => !known.includes(one)), PAGE_ONLY);
});

test("every cause has a sentence and a remedy, in both languages", async () => {
  const tables = (await import("../../static/js/lang/check.js")).default;
  for (const table of Object.values(tables)) {
    for (const one of CAUSES) assert.ok(table[`check.cause.${one}`] && table[`check.remedy.${one}`], one);
  }
});

test("URLs of both schemes and both families", () => {
  assert.deepEqual(parseUrl("stun:h.example:3478").transport, "udp");
  const turns = parseUrl("turns:[2001:db8::1]:443?transport=tcp");
  assert.deepEqual([turns.kind, turns.transport, turns.host, turns.port, turns.family], ["turn", "tls", "[2001:db8::1]", 443, "ipv6"]);
  assert.equal(parseUrl("turn:192.0.2.1:3478").family, "ipv4");
  assert.equal(parseUrl("https://h"), null);
  const ways = waysIn({ iceServers: [{ urls: "stun:h:1" }, { urls: ["turn:h:2", "nonsense"], username: "u", credential: "c" }] });
  assert.deepEqual(ways.map(({ server }) => server), [{ urls: "stun:h:1" }, { urls: "turn:h:2", username: "u", credential: "c" }]);
});

test("silence over UDP is told from a closed port", () => {
  assert.equal(cause([udp(SILENT), stun(SILENT), tcp(GOOD)]), "udp-blocked");
  assert.equal(cause([stun(SILENT), udp(SILENT), tcp(SILENT), tcp(GOOD, 443)]), "udp-blocked", "others were answered");
  const unreached = { facts: { ...FACTS, udpReached: false } };
  assert.equal(cause([stun(SILENT), udp(SILENT), tcp(SILENT), tcp(GOOD, 443)], unreached), "port-closed", "nobody was");
  assert.equal(cause([stun(SILENT), udp(SILENT), tcp(GOOD), tcp(GOOD, 443)], unreached), "udp-blocked");
  assert.equal(cause([udp(SILENT), stun(GOOD)]), "no-relay");
  assert.equal(cause([way("stun:h:3479", SILENT), stun(GOOD)]), "port-closed");
  assert.equal(cause([tcp(REFUSED), tcp(GOOD, 443)]), "port-closed");
  assert.equal(cause([tcp(SILENT), stun(SILENT)], { pageHost: "elsewhere" }), "no-answer");
  assert.equal(cause([udp(SILENT), tcp(SILENT)], { pageHost: "elsewhere" }), "no-answer");
});

test("an address that this network does not reach is no fault", () => {
  const ways = [udp(SILENT, "[2001:db8::1]"), tcp(REFUSED, 443, "[2001:db8::1]"), udp(GOOD)];
  assert.equal(cause(ways), "no-route");
  const { status, causes } = judge(findingsOf({ ways, context: CONTEXT }));
  assert.deepEqual([status, causes], ["good", []]);
});

test("TLS that fails where TCP works is a matter of the certificate", () => {
  assert.equal(cause([tls(REFUSED), tcp(GOOD)]), "certificate-untrusted");
  assert.equal(cause([tls(REFUSED), tcp(SILENT), tcp(GOOD, 443)]), "port-closed");
  assert.equal(cause([tcp(REFUSED, 443), tls(GOOD, 443)]), "turn-filtered", "the page itself came over that port");
  assert.equal(cause([tls(REFUSED, 443), tcp(REFUSED, 443)]), "turn-filtered");
  const own = { facts: { ...FACTS, certificatePublic: false } };
  assert.equal(cause([tls(REFUSED, 443), tcp(REFUSED, 443)], own), "certificate-untrusted");
});

test("answers of the relay", () => {
  const refused = (code, context) => cause([udp({ ok: false, code })], context);
  assert.equal(refused(401), "credential-wrong");
  assert.equal(refused(401, { now: 1_700_000_001 }), "credential-expired");
  assert.equal(refused(401, { username: "ada" }), "credential-wrong");
  assert.deepEqual([486, 508, 403, 437, -1].map((code) => refused(code)), ["quota-reached", "out-of-ports", "other", "other", "other"]);
});

test("between the relay and the world", () => {
  const relayed = { address: "203.0.113.10", port: 50_000 };
  const seen = (outside, facts = FACTS) => outsideCause({ relayed, ...outside }, facts, "h");
  assert.equal(seen({ state: "ok", remote: "relay" }), null);
  assert.equal(seen({ state: "ok", remote: "prflx" }), "wrong-public-address");
  assert.equal(seen({ state: "failed", asked: 3, remote: "relay" }), "relay-range-firewalled");
  assert.equal(seen({ state: "failed", asked: 0, remote: "relay" }), "relay-range-firewalled");
  assert.equal(seen({ state: "failed", asked: 2, remote: "prflx" }), "wrong-public-address");
  const foreign = { relayed: { address: "203.0.113.99", port: 1 }, state: "failed", asked: 0 };
  assert.equal(seen(foreign), "wrong-public-address");
  const inside = { relayed: { address: "10.0.0.5", port: 1 }, state: "failed", asked: 0 };
  assert.equal(seen(inside, { ...FACTS, address: null }), "wrong-public-address", "a private address for a public client");
  assert.equal(seen({ state: "untested", relayed: undefined }), null);
  assert.equal(outsideCause({ ...foreign, relayed: { address: "2001:db8::1", port: 1 } }, FACTS, "h"), "relay-range-firewalled");
});

test("the whole: good, degraded, broken, the worst cause first", () => {
  const seen = { ice: { ok: true, skew: 0 }, signaling: { ok: true, ms: 1, rtt: 1 }, context: CONTEXT };
  const verdict = (more) => judge(findingsOf({ ...seen, ...more }));
  const ways = [stun(GOOD), udp(GOOD), tcp(GOOD), tls(REFUSED)];
  assert.deepEqual(verdict({ ways }).causes, ["certificate-untrusted"]);
  assert.equal(verdict({ ways }).status, "degraded");
  assert.deepEqual(verdict({ ways: ways.slice(0, 3) }).works.map(({ transport }) => transport), ["udp", "tcp"]);
  assert.deepEqual(verdict({ ways, ice: { ok: true, skew: -600 } }).causes, ["certificate-untrusted", "clock-skew"]);
  const blocked = verdict({ ways, signaling: { ok: false, ms: 1 } });
  assert.deepEqual([blocked.status, blocked.causes[0]], ["broken", "websocket-blocked"]);
  assert.deepEqual(verdict({ ice: { ok: false, code: "no-answer" } }).causes, ["no-answer"]);
  assert.deepEqual(verdict({ ice: { ok: false, code: "token-missing" } }), { status: "broken", causes: ["token-refused"], works: [] });
  const lossy = verdict({ ways: ways.slice(0, 3), passages: { udp: { ok: true, loss: 0.2 }, tcp: { ok: true, loss: 0 } } });
  assert.deepEqual([lossy.status, lossy.causes], ["degraded", ["packet-loss"]]);
  const lost = verdict({ ways: ways.slice(0, 3), passages: { udp: { ok: false }, tcp: { ok: false } } });
  assert.deepEqual([lost.status, lost.causes], ["broken", ["relay-lost"]]);
});

test("kinds of NAT", () => {
  const asked = (...urls) => urls.map(parseUrl);
  const two = asked("stun:192.0.2.1:1", "stun:192.0.2.1:2");
  const seen = (...ports) => ports.map((port) => ({ address: "198.51.100.7", port, group: "a" }));
  const nothing = new Set();
  assert.equal(kindOf(seen(1, 2), nothing, two), "symmetric");
  assert.equal(kindOf(seen(1), nothing, two), "same-for-ports");
  assert.equal(kindOf(seen(1), nothing, asked("stun:192.0.2.1:1", "stun:192.0.2.2:1")), "endpoint-independent");
  assert.equal(kindOf(seen(1), nothing, asked("stun:192.0.2.1:1")), "unknown");
  assert.equal(kindOf(seen(1), new Set(["198.51.100.7"]), two), "none");
  assert.equal(kindOf([], nothing, two), "none");
  const interfaces = [{ address: "198.51.100.7", port: 1, group: "a" }, { address: "198.51.100.7", port: 2, group: "b" }];
  assert.equal(kindOf(interfaces, nothing, two), "same-for-ports", "two interfaces have two sockets");
});

test("figures, addresses and the way that a call takes", () => {
  assert.deepEqual(summary(4, [10, 20, 10]), { sent: 4, received: 3, loss: 0.25, rtt: 10, jitter: 10 });
  assert.deepEqual(summary(2, []), { sent: 2, received: 0, loss: 1, rtt: null, jitter: null });
  assert.deepEqual(["203.0.113.7", "2001:db8:1:2::3"].map(shorten), ["203.0.113.x", "2001:db8:1:x"]);
  assert.deepEqual(["10.1.2.3", "172.31.0.1", "100.64.0.1", "fd00::1", "::1"].filter(isPrivate).length, 5);
  assert.deepEqual(["172.32.0.1", "100.128.0.1", "2001:db8::1", "8.8.8.8"].filter(isPrivate), []);
  const ways = [tcp(GOOD, 8443), tcp(GOOD, 443, "other"), tcp(GOOD, 3478), udp(SILENT), tls(GOOD, 443)];
  assert.equal(bestWay(ways, ["udp", "tcp", "tls"], "h").url, "turn:h:3478?transport=tcp");
  assert.equal(bestWay(ways, ["udp"], "h"), null);
});
