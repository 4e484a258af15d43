// The one line that gives an existing page our ICE servers, in a real browser.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { servePages } from "./support/pages.mjs";
import { startServer } from "./support/server.mjs";

const FILES = readdirSync(new URL("../../static/relais", import.meta.url));

let server;
let pages;
let browser;

before(async () => {
  pages = await servePages();
  // Not on loopback alone, so an invitation is needed.
  server = await startServer({ tcp: "0.0.0.0:0", http: "127.0.0.1:0", origin: pages.origin });
  browser = await startBrowser({ ca: server.ca, keep: false });
});

after(async () => {
  await browser?.close();
  pages?.close();
  await server?.stop();
});

const script = (query = `?token=${server.ready.invite}`) => `${server.origin}/ice.js${query}`;

/** An empty page with the line in it. `prepare` runs before it is loaded. */
async function open(address, prepare = () => {}, hash = "") {
  const page = await browser.page();
  await prepare(page);
  await page.goto(pages.address("plain", { ice: address }) + hash);
  return page;
}

/** The URLs that a new connection of the page uses once its first offer is set. */
function used(page, configuration) {
  return page.evaluate(async (given) => {
    const connection = new RTCPeerConnection(given ?? undefined);
    connection.createDataChannel("x");
    await connection.setLocalDescription(await connection.createOffer());
    const urls = connection.getConfiguration().iceServers.flatMap((one) => one.urls);
    connection.close();
    return urls;
  }, configuration);
}

const isOurs = (url) => /^(stun|turns?):localhost:/.test(url);

test("a connection gets our servers beside the page's own, or in their place", async () => {
  const page = await open(script());
  const own = { iceServers: [{ urls: "stun:127.0.0.1:9" }] };
  const urls = await used(page, own);
  assert.equal(urls[0], "stun:127.0.0.1:9");
  assert.ok(urls.slice(1).every(isOurs), String(urls));
  assert.ok(urls.some((url) => url.startsWith("turn:") && url.endsWith("udp")));
  assert.ok((await used(page, null)).some(isOurs), "with no configuration at all");
  await page.close();

  const alone = await open(script(`?only&token=${server.ready.invite}`));
  const left = await used(alone, own);
  assert.ok(left.length > 0 && left.every(isOurs), String(left));
  await alone.close();
});

test("the token may stand in the page's own address", async () => {
  const page = await open(script(""), () => {}, `#t=${server.ready.invite}`);
  assert.ok((await used(page, null)).some(isOurs));
  await page.close();
});

test("relay candidates come even when the configuration is late, and what waits keeps its order", async () => {
  let release;
  const held = new Promise((done) => {
    release = done;
  });
  const page = await open(script(), (mine) =>
    mine.route("**/api/ice", async (route) => {
      await held;
      await route.continue();
    }),
  );
  await page.evaluate(() => {
    window.order = [];
    window.types = new Set();
    const [one, two] = [new RTCPeerConnection(), new RTCPeerConnection()];
    window.pair = [one, two];
    one.createDataChannel("x");
    one.onicecandidate = ({ candidate }) => candidate && window.types.add(candidate.type);
    const note = (name) => () => window.order.push(name);
    // Not one of them is awaited before the next is called: the browser's own chain would keep their order.
    one.setLocalDescription().then(note("offer set"));
    one.createOffer((offer) => {
      window.order.push("callback");
      two.setRemoteDescription(offer).then(note("offer taken"));
      two.setLocalDescription().then(note("answer set"));
    }, () => window.order.push("failed"));
    window.early = one.getConfiguration().iceServers.length;
  });
  assert.equal(await page.evaluate(() => window.early), 0, "constructed before the configuration was there");
  assert.deepEqual(await page.evaluate(() => window.order), []);
  release();
  await page.waitForFunction(() => window.order.length === 4 && window.types.has("relay"), null, { timeout: 60_000 });
  assert.deepEqual(await page.evaluate(() => window.order), ["offer set", "callback", "offer taken", "answer set"]);
  await page.close();
});

test("the credential is renewed, for connections that are there and for new ones", async () => {
  const page = await open(script(), (mine) =>
    // The server's answer as it is, but for its life: three quarters of four fifths of a second are soon over.
    mine.addInitScript(() => {
      const real = window.fetch;
      window.fetch = async (...parameters) => Response.json({ ...(await (await real(...parameters)).json()), ttl: 0.8 });
    }),
  );
  await page.evaluate(async () => {
    window.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: [{ urls: "stun:127.0.0.1:9" }] });
    window.pc.createDataChannel("x");
    await window.pc.setLocalDescription();
    window.username = () => window.pc.getConfiguration().iceServers.find((one) => one.username).username;
    window.first = window.username();
    window.offer = window.pc.localDescription.sdp;
  });
  await page.waitForFunction(() => window.username() !== window.first);
  const [count, same] = await page.evaluate(() => [
    window.pc.getConfiguration().iceServers.filter((one) => one.username).length,
    window.pc.localDescription.sdp.slice(0, 60) === window.offer.slice(0, 60),
  ]);
  assert.equal(count, 1, "in place of the old one");
  assert.equal(same, true, "with no new negotiation");
  // A page that hands back what it was told does not keep the old credential alive.
  const after = await page.evaluate(() => {
    window.pc.setConfiguration({ ...window.pc.getConfiguration(), iceTransportPolicy: "relay" });
    return window.pc.getConfiguration();
  });
  assert.equal(after.iceTransportPolicy, "relay");
  assert.equal(after.iceServers.filter((one) => one.username).length, 1);
  await page.close();
});

test("RTCPeerConnection is what it was otherwise", async () => {
  const page = await open(script());
  const found = await page.evaluate(async () => {
    class Own extends RTCPeerConnection {
      constructor(...parameters) {
        super(...parameters);
        this.mine = true;
      }
      setLocalDescription(...parameters) {
        this.called = true;
        return super.setLocalDescription(...parameters);
      }
    }
    const own = new Own();
    own.createDataChannel("x");
    await own.setLocalDescription();
    const thrown = (make) => {
      try {
        make();
        return null;
      } catch (error) {
        return error.name;
      }
    };
    const plain = new RTCPeerConnection(null);
    const [certificate] = [await RTCPeerConnection.generateCertificate({ name: "ECDSA", namedCurve: "P-256" })];
    const given = new RTCPeerConnection({ certificates: [certificate], iceCandidatePoolSize: 1 });
    await given.setLocalDescription();
    return {
      own: own instanceof Own && own instanceof RTCPeerConnection && own.mine && own.called,
      plain: plain instanceof RTCPeerConnection && plain.constructor === RTCPeerConnection,
      prefixed: window.webkitRTCPeerConnection === undefined || window.webkitRTCPeerConnection === RTCPeerConnection,
      name: RTCPeerConnection.name,
      length: [RTCPeerConnection.length, RTCPeerConnection.prototype.setLocalDescription.length],
      certificate: certificate instanceof RTCCertificate,
      certificates: given.getConfiguration().certificates.length,
      errors: [
        thrown(() => RTCPeerConnection()),
        thrown(() => new RTCPeerConnection("nonsense")),
        thrown(() => new RTCPeerConnection({ iceServers: [{ urls: "nonsense" }] })),
        thrown(() => new RTCPeerConnection({ iceServers: "nonsense" })),
        thrown(() => plain.setConfiguration({ bundlePolicy: "max-bundle" })),
      ],
      rejected: await plain.setLocalDescription({ type: "answer", sdp: "" }).catch((error) => error.name),
      closed: (plain.close(), await plain.createOffer().catch((error) => error.name)),
    };
  });
  assert.deepEqual(found, {
    own: true,
    plain: true,
    prefixed: true,
    name: "RTCPeerConnection",
    length: [0, 0],
    certificate: true,
    certificates: 1,
    errors: ["TypeError", "TypeError", "SyntaxError", "TypeError", "InvalidModificationError"],
    rejected: "InvalidStateError",
    closed: "InvalidStateError",
  });
  await page.close();
});

test("without an invitation, or without the server, the page works as it would without us, and the console says why", async () => {
  const known = browser.messages.length;
  const own = { iceServers: [{ urls: "stun:127.0.0.1:9" }] };
  const uninvited = await open(script(""));
  assert.deepEqual(await used(uninvited, own), ["stun:127.0.0.1:9"]);
  await uninvited.close();
  const said = browser.messages.splice(known);
  assert.ok(said.some((text) => text.includes("asks for an invitation")), String(said));

  const cut = await open(script(), (mine) => mine.route("**/api/ice", (route) => route.abort()));
  assert.deepEqual(await used(cut, own), ["stun:127.0.0.1:9"]);
  await cut.close();
  assert.ok(browser.messages.splice(known).some((text) => text.includes("no ICE servers from")));
});

test("what is made for other pages may be loaded by them; nothing else says so", async () => {
  const allowed = async (path) => {
    const answer = await fetch(`http://${server.ready.http[0]}${path}`);
    assert.equal(answer.status, 200, path);
    return answer.headers.get("access-control-allow-origin");
  };
  const modules = [...FILES].map((file) => `/relais/${file}`);
  assert.ok(modules.includes("/relais/room.js"));
  for (const path of ["/relais.js", "/ice.js", ...modules]) assert.equal(await allowed(path), "*", path);
  for (const path of ["/", "/js/call.js", "/healthz"]) assert.equal(await allowed(path), null, path);
});
