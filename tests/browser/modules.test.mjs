// The modules without a document, by themselves.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { posix } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { refreshDelay, relayTransport, rtcConfiguration } from "../../static/relais/ice.js";
import commonEn from "../../static/js/lang/en.js";
import commonFr from "../../static/js/lang/fr.js";
import { withoutSecrets } from "../../static/js/log.js";
import { isRoomName, randomRoomName, roomIn, toRoomName, understand } from "../../static/js/room-name.js";
import { backOff } from "../../static/relais/signaling.js";
import { videoLimit } from "../../static/relais/media.js";
import { figures, judgeRoute, readMedia, readRoute } from "../../static/relais/stats.js";
import { linkTo, tokenRole, tokenRoom } from "../../static/js/token.js";

const STATIC = fileURLToPath(new URL("../../static/", import.meta.url));
const FILES = readdirSync(STATIC, { recursive: true }).filter((name) => statSync(STATIC + name).isFile());

// The texts of every page, `js/lang/{page}.js`, beside those that all share, `js/lang/{language}.js`.
const PAGES = FILES.map((name) => /^js\/lang\/([a-z-]{3,})\.js$/.exec(name)?.[1]).filter(Boolean);
const tables = await Promise.all(PAGES.map(async (page) => (await import(`../../static/js/lang/${page}.js`)).default));
const en = Object.assign({}, commonEn, ...tables.map((table) => table.en));
const fr = Object.assign({}, commonFr, ...tables.map((table) => table.fr));

test("both languages have the same keys and the same blanks", () => {
  const blanks = (table) => Object.entries(table).map(([key, text]) => [key, [...text.matchAll(/\{\w+\}/g)].map(String).sort()]);
  assert.deepEqual(blanks(fr), blanks(en));
});

test("every key that the pages name is in the tables", () => {
  const named = FILES.filter((name) => /\.(html|js)$/.test(name) && !name.includes("lang")).flatMap((name) => {
    const text = readFileSync(STATIC + name, "utf8");
    const inMarkup = [...text.matchAll(/data-(?:text|label|placeholder)="([^"]+)"/g)];
    const inScript = [...text.matchAll(/(?:say|label|notify|text)\((?:[\w.()"-]+, )?"([a-z]+[.][a-z.-]+)"/g)];
    return [...inMarkup, ...inScript].map((match) => match[1]);
  });
  assert.ok(named.length > 60, `${named.length} keys found`);
  assert.deepEqual([...new Set(named)].filter((key) => !(key in en)), []);
});

/** A page and everything that it loads by name, each once: styles, icons, modules and what those import. */
function closure(page) {
  const found = new Set();
  const visit = (name) => {
    if (found.has(name)) return;
    found.add(name);
    const text = readFileSync(STATIC + name, "utf8");
    const named = name.endsWith(".html") ? /(?:href|src)="\/([^"]+\.(?:css|js|svg))"/g : /(?:from|import)\s*\(?\s*"(\.[^"]+)"/g;
    for (const [, target] of name.match(/\.(html|js)$/) ? text.matchAll(named) : []) {
      visit(name.endsWith(".html") ? target : posix.join(posix.dirname(name), target));
    }
  };
  visit(page);
  return [...found];
}

for (const page of FILES.filter((name) => name.endsWith(".html"))) {
  test(`${page} weighs less than 150 KB as it is sent, 300 KB unpacked; no inline script or style, no other host`, (t) => {
    const files = closure(page).map((name) => readFileSync(STATIC + name));
    const sum = (sizes) => sizes.reduce((total, size) => total + size, 0);
    const [raw, sent] = [sum(files.map((file) => file.length)), sum(files.map((file) => gzipSync(file).length))];
    t.diagnostic(`${page}: ${files.length} files, ${raw} bytes, ${sent} as sent`);
    assert.ok(files.length > 3, "the page's own files are found");
    assert.ok(sent < 150_000, `${sent} bytes sent`);
    assert.ok(raw < 300_000, `${raw} bytes unpacked`);
    const text = readFileSync(STATIC + page, "utf8");
    assert.doesNotMatch(text, /<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|https?:\/\//);
  });
}

/** The modules that a page's script imports, by its depth: what a browser would otherwise find one round trip at a time. */
function importsOf(page) {
  const found = new Set();
  let level = [...page.matchAll(/<script type="module" src="([^"]+)"/g)].map(([, path]) => path);
  while (level.length > 0) {
    const next = level.flatMap((path) => {
      const text = readFileSync(STATIC + path.slice(1), "utf8");
      return [...text.matchAll(/^(?:import|export|\}).*? from "(\.[^"]+)"|^import "(\.[^"]+)"/gm)].map(([, from, bare]) => posix.join(posix.dirname(path), from ?? bare));
    });
    level = [...new Set(next)].filter((path) => !found.has(path));
    for (const path of level) found.add(path);
  }
  return [...found];
}

for (const name of FILES.filter((file) => file.endsWith(".html"))) {
  test(`${name} names every module beforehand, so that all come in one round trip`, () => {
    const page = readFileSync(STATIC + name, "utf8");
    const links = importsOf(page).map((path) => `    <link rel="modulepreload" href="${path}">\n`);
    assert.ok(links.length > 5, "the page's modules are found");
    const bare = page.replaceAll(/ *<link rel="modulepreload".*\n/g, "");
    const wanted = bare.replace(/ *<script type="module"/, (script) => links.join("") + script);
    if (process.env.RELAIS_RENEW) writeFileSync(STATIC + name, wanted);
    assert.ok(readFileSync(STATIC + name, "utf8") === wanted, `${name} is stale: RELAIS_RENEW=1 node --test tests/browser/modules.test.mjs`);
  });
}

test("a saved log holds nothing that lets anybody in", () => {
  const token = `eyJhbGciOiJIUzI1NiJ9.eyJyb29tIjoiYSJ9.${"a".repeat(43)}`;
  const print = Array.from({ length: 32 }, (_, index) => index.toString(16).padStart(2, "0").toUpperCase()).join(":");
  const kept = withoutSecrets({
    servers: [{ urls: ["turn:h:3478?transport=udp"], username: "1763690000:ada", credential: "c2VjcmV0" }],
    address: `https://h/call/a#t=${token}`,
    said: `refused: ${token} and 1763690000:ada`,
    candidate: "candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host generation 0 ufrag Xy7z network-id 1",
    sdp: `v=0\r\na=ice-ufrag:Xy7z\r\na=ice-pwd:verysecretpassword\r\na=fingerprint:sha-256 ${print}\r\n`,
    stats: { iceLocalUsernameFragment: "Xy7z", fingerprint: print, bytesSent: 12, deep: { deeper: { more: { most: {} } } } },
    long: "x".repeat(1_000),
    list: Array.from({ length: 500 }, () => 1),
  });
  const text = JSON.stringify(kept);
  for (const secret of [token, token.slice(-43), "1763690000", "c2VjcmV0", "Xy7z", "verysecretpassword", print.slice(0, 47)]) {
    assert.ok(!text.includes(secret), `${secret} is in ${text}`);
  }
  for (const wanted of ["turn:h:3478?transport=udp", "192.0.2.7 50000 typ host", "https://h/call/a"]) assert.ok(text.includes(wanted), wanted);
  assert.equal(kept.stats.bytesSent, 12);
  assert.ok(kept.long.length < 500 && kept.list.length < 100 && text.length < 4_000, "bounded");
});

test("relay URLs by transport", () => {
  assert.equal(relayTransport("turn:h:3478?transport=udp"), "udp");
  assert.equal(relayTransport("turn:h:3478"), "udp");
  assert.equal(relayTransport("turn:[2001:db8::1]:443?transport=tcp"), "tcp");
  assert.equal(relayTransport("turns:h:443?transport=tcp"), "tls");
  assert.equal(relayTransport("stun:h:3478"), null);
});

test("a relay mode leaves its own URLs, and the others all", () => {
  const ice = {
    iceServers: [
      { urls: ["stun:h:1"] },
      { urls: ["turn:h:1?transport=udp", "turn:h:2?transport=tcp", "turns:h:2?transport=tcp"], username: "u", credential: "c" },
    ],
  };
  assert.deepEqual(rtcConfiguration(ice).iceServers, ice.iceServers);
  assert.equal(rtcConfiguration(ice).iceTransportPolicy, "all");
  assert.deepEqual(rtcConfiguration(ice, "tls").iceServers, [{ urls: ["turns:h:2?transport=tcp"], username: "u", credential: "c" }]);
  assert.equal(rtcConfiguration(ice, "any").iceServers[0].urls.length, 3);
  assert.equal(rtcConfiguration(ice, "any").iceTransportPolicy, "relay");
  assert.deepEqual(rtcConfiguration({ iceServers: [{ urls: "stun:h:1" }] }, "udp").iceServers, []);
});

test("fresh credentials are asked for by seven eighths of their life", () => {
  assert.equal(refreshDelay(86_400), 75_600_000);
  assert.equal(refreshDelay(600), 525_000);
  assert.equal(refreshDelay(1), 5_000);
});

test("the delay doubles, is half random, and has an end", () => {
  assert.equal(backOff(1, () => 0), 250);
  assert.equal(backOff(1, () => 1), 500);
  assert.equal(backOff(2, () => 1), 1_000);
  assert.equal(backOff(10, () => 1), 1_500, "a restarted server is back soon");
  assert.equal(backOff(50, () => 1), 8_000);
});

test("the way of a call is judged by both ends", () => {
  const mine = (local, remote, relay = null) => ({ local, remote, relay });
  assert.equal(judgeRoute(null, null), null);
  assert.deepEqual(judgeRoute(mine("host", "host")), { kind: "direct", transports: [] });
  assert.deepEqual(judgeRoute(mine("host", "srflx")), { kind: "stun", transports: [] });
  // A peer-reflexive candidate that its owner knows as a host address, or as a relay.
  assert.equal(judgeRoute(mine("host", "prflx"), { local: "host", relay: null }).kind, "direct");
  assert.deepEqual(judgeRoute(mine("host", "prflx"), { local: "relay", relay: "tls" }), { kind: "relay", transports: ["tls"] });
  assert.deepEqual(judgeRoute(mine("relay", "relay", "udp"), { local: "relay", relay: "tcp" }).transports, ["udp", "tcp"]);
  assert.deepEqual(judgeRoute(mine("relay", "relay", "udp"), { local: "relay", relay: "udp" }).transports, ["udp"]);
});

test("the selected pair is found with and without a transport entry", () => {
  const pair = { id: "P", type: "candidate-pair", state: "succeeded", nominated: true, localCandidateId: "L", remoteCandidateId: "R", bytesSent: 1, bytesReceived: 2, timestamp: 5 };
  const candidates = [
    ["L", { id: "L", candidateType: "relay", relayProtocol: "tcp" }],
    ["R", { id: "R", candidateType: "host" }],
  ];
  const route = { local: "relay", remote: "host", relay: "tcp", roundTrip: null, sent: 1, received: 2, at: 5 };
  assert.deepEqual(readRoute(new Map([["P", pair], ...candidates])), route);
  assert.deepEqual(readRoute(new Map([["T", { type: "transport", selectedCandidatePairId: "P" }], ["P", { ...pair, nominated: false }], ...candidates])), route);
  assert.equal(readRoute(new Map(candidates)), null);
});

test("figures of a connection: rates and losses between two readings", () => {
  const reading = (at, sent, received, packets, lost) => ({
    route: { at, sent, received },
    media: readMedia(new Map([
      ["A", { type: "inbound-rtp", kind: "audio", packetsReceived: packets / 2, packetsLost: lost }],
      ["V", { type: "inbound-rtp", kind: "video", packetsReceived: packets / 2, packetsLost: 0, frameWidth: 640, frameHeight: 480, framesPerSecond: 30 }],
      ["O", { type: "outbound-rtp", kind: "video", frameWidth: 320, frameHeight: 240, framesPerSecond: 15, qualityLimitationReason: "cpu" }],
      ["R", { type: "remote-inbound-rtp", kind: "video", fractionLost: 0.25 }],
    ])),
  });
  const first = reading(1_000, 0, 0, 100, 0);
  const second = reading(2_000, 1_000, 2_000, 190, 10);
  assert.deepEqual(figures(first, second), {
    in: 16_000,
    out: 8_000,
    lossIn: 0.1,
    lossOut: 0.25,
    shown: { width: 640, height: 480, rate: 30 },
    sent: { width: 320, height: 240, rate: 15, limited: "cpu" },
  });
  const { in: rate, lossIn } = figures(null, second);
  assert.deepEqual([rate, lossIn], [null, null]);
  assert.equal(figures(second, first).in, null, "another connection since");
});

test("what a page sends is divided among all others", () => {
  assert.equal(videoLimit(1), null);
  for (const others of [2, 3, 4, 5]) {
    const { maxBitrate, scaleDown } = videoLimit(others);
    assert.ok(maxBitrate * others <= 3_000_010 && scaleDown > 1);
  }
});

test("room names, typed and pasted", () => {
  const origin = "https://h:8443";
  for (const language of ["en", "fr"]) for (let turn = 0; turn < 200; turn += 1) assert.ok(isRoomName(randomRoomName(language)));
  assert.equal(toRoomName("  L’Été à Zoé! "), "l-ete-a-zoe");
  assert.equal(roomIn("/call/blue-fox-42"), "blue-fox-42");
  assert.equal(roomIn("/call/a%2Fb"), null);
  assert.equal(roomIn("/call/%E0"), null);
  assert.deepEqual(understand("Blue Fox", origin), { room: "blue-fox", hash: "" });
  assert.deepEqual(understand(`${origin}/call/A~b#t=x.y.z`, origin), { room: "A~b", hash: "#t=x.y.z" });
  assert.deepEqual(understand("https://other/call/a#t=1", origin), { href: "https://other/call/a#t=1" });
  assert.deepEqual(understand(`${origin}/#t=1`, origin), { hash: "#t=1" });
  assert.equal(understand("§", origin), null);
  assert.equal(understand(`${origin}/check`, origin), null);
});

test("the room of a token is read from its payload", () => {
  const token = (payload) => `h.${Buffer.from(JSON.stringify(payload)).toString("base64url")}.s`;
  assert.equal(tokenRoom(token({ room: "*" })), "*");
  assert.equal(tokenRoom(token({ room: "é" })) !== null, true);
  assert.equal(tokenRoom(token({})), null);
  assert.equal(tokenRoom("nonsense"), null);
});
