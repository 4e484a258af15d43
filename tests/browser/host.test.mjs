// What a host may do: remove somebody, lock the room, end it. And calls that outlive their socket and their credential.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { hangUp, join, look, newRoom, picturesArriveOnBoth, says, until } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

/** Seconds; the least that the server takes. */
const CREDENTIAL_LIFE = 60;

/** Five pictures a second in a small window: this one lasts while all others are measured. */
const LIGHT = { viewport: { width: 640, height: 480 }, flags: ["--use-fake-device-for-media-stream=device-count=1,fps=5"] };

let server;
let ada;
let bob;
/** A relayed call that lasts as long as this file. */
let longCall;
let others;

before(async () => {
  // Nobody is let in without a token, so everybody has a role. The relay ends what lives on an old credential.
  const settings = `[turn]\ncredential_ttl = ${CREDENTIAL_LIFE}\nstrict_expiry = true\n[limits]\npeers_per_room = 4\n`;
  server = await startServer({ tcp: "0.0.0.0:0" }, settings);
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca }), startBrowser({ ca: server.ca })]);
  others = await Promise.all([startBrowser({ ca: server.ca, ...LIGHT }), startBrowser({ ca: server.ca, ...LIGHT })]);
  longCall = await call("?relay=udp", others);
  longCall.began = await Promise.all(longCall.pages.map(credential));
});

after(async () => {
  await Promise.all([ada, bob, ...(others ?? [])].map((browser) => browser?.close()));
  await server?.stop();
});

/** A host and a guest with a link of the host's, in a call. `prepare` runs on both pages before. */
async function call(query = "", browsers = [ada, bob], prepare = () => {}) {
  const room = newRoom();
  const pages = [await browsers[0].page(), await browsers[1].page()];
  for (const page of pages) await prepare(page);
  await join(pages[0], server.link(room, query), "Ada");
  await says(pages[0], "alone");
  const link = await guestLink(pages[0], query);
  await join(pages[1], link, "Bob");
  await picturesArriveOnBoth(...pages);
  return { room, pages, link };
}

/** What “Copy the link” gives, with our query in it. `words.test.mjs` reads it from the real clipboard. */
async function guestLink(page, query = "") {
  await page.evaluate(() => {
    window.copied = null;
    navigator.clipboard.write = async ([item]) => {
      window.copied = await (await item.getType("text/plain")).text();
    };
  });
  await page.click("#stage .controls [data-copy]");
  const link = await page.waitForFunction(() => window.copied, null, { polling: 50 });
  return (await link.jsonValue()).replace("#", `${query}#`);
}

async function done({ pages }) {
  for (const page of pages) {
    await hangUp(page);
    await page.close();
  }
}

/**
 * The username of the relay's credential in the page's newest connection, when it ends (unix seconds), and the name that
 * ICE goes by until it is restarted (RFC 8839 section 5.4).
 */
async function credential(page) {
  const [username, sdp] = await page.evaluate(() => {
    const connection = window.keptConnections.at(-1);
    return [connection.getConfiguration().iceServers.find((one) => one.username).username, connection.localDescription.sdp];
  });
  return { username, until: Number(username.split(":")[0]), ice: /^a=ice-ufrag:(.+)$/m.exec(sdp)[1] };
}

/**
 * Neither page gives its connection up from now on, so only the relay can end what flows; and when packets came is written
 * down. Runs in the page.
 */
function holdOn() {
  RTCPeerConnection.prototype.close = () => {};
  RTCRtpSender.prototype.replaceTrack = async () => {};
  MediaStreamTrack.prototype.stop = () => {};
  window.arrivals = [];
  const connection = window.keptConnections.at(-1);
  setInterval(async () => {
    const all = [...(await connection.getStats()).values()];
    const video = all.find((one) => one.type === "inbound-rtp" && one.kind === "video");
    window.arrivals.push([performance.now(), video.packetsReceived]);
  }, 50);
}

async function removeBob(host) {
  await host.locator(".tile .kick").click();
  await host.locator("#confirm[open]", { hasText: "Remove Bob from the call?" }).waitFor();
  await host.click("#confirm-yes");
}

test("the host removes the other side of a relayed call: its media ends at once, by the relay", async () => {
  const going = await call("?relay=udp");
  const [host, guest] = going.pages;
  for (const page of going.pages) {
    assert.equal((await look(page)).local.type, "relay");
    await page.evaluate(holdOn);
  }
  const [, subject] = (await credential(guest)).username.split(":");
  await host.waitForFunction(() => window.arrivals.length > 10, null, { polling: 50 });
  await host.locator(".tile .kick").click();
  await host.locator("#confirm[open]", { hasText: "Remove Bob from the call?" }).waitFor();
  const clicked = await host.evaluate(() => {
    document.querySelector("#confirm-yes").click();
    return performance.now();
  });
  await guest.locator("#refused h1", { hasText: "You were removed from the call" }).waitFor();
  await host.locator(".toast", { hasText: "Bob was removed" }).waitFor();
  await host.waitForFunction((since) => window.arrivals.at(-1)[0] > since + 3_000, clicked, { polling: 100 });
  const { last, sending } = await host.evaluate(
    (since) => {
      const changed = window.arrivals.filter(([, count], index) => index > 0 && count > window.arrivals[index - 1][1]);
      return { last: changed.at(-1)[0] - since, sending: changed.filter(([at]) => at < since).length };
    },
    clicked,
  );
  assert.ok(sending > 5, `packets came before: ${sending} times`);
  // Within a second on a machine that has time (tests/revocation.rs); long before a page would have given up on its own.
  assert.ok(last < (process.env.RELAIS_LONG ? 1_000 : 2_500), `the last packet came ${Math.round(last)} ms after the click`);
  const ended = server.entries.filter((entry) => entry.message === "allocation ended" && entry.subject === subject);
  assert.deepEqual(ended.map(({ reason }) => reason), ["Revoked"]);
  const stillSends = await guest.evaluate(() => window.keptConnections.at(-1).getSenders().some((one) => one.track?.readyState === "live"));
  assert.equal(stillSends, true, "the removed page would have gone on");
  await says(host, "alone");
  await done(going);
});

test("who was removed does not come back by the same link, but by a new one", async () => {
  const going = await call();
  const [host, guest] = going.pages;
  await removeBob(host);
  await guest.locator("#refused[data-code=kicked]").waitFor();
  await join(guest, going.link, "Bob");
  await guest.locator("#refused[data-code=kicked]").waitFor();
  await guest.fill("#paste-link", await guestLink(host));
  await guest.click("#paste .inner");
  await guest.locator("#enter .primary").click();
  await picturesArriveOnBoth(...going.pages);
  await done(going);
});

test("the host locks the room and opens it again, with the keyboard alone", async () => {
  const going = await call();
  const [host, guest] = going.pages;
  await host.locator("#open-settings").focus();
  await host.keyboard.press("Enter");
  await host.locator("#lock").focus();
  await host.keyboard.press("Space");
  await guest.locator("#locked:not([hidden])", { hasText: "Locked" }).waitFor();
  await guest.locator(".toast", { hasText: "The room is locked" }).waitFor();
  const third = await bob.page();
  await join(third, going.link, "Eve");
  await third.locator("#refused h1", { hasText: "This room is locked" }).waitFor();
  await host.keyboard.press("Space");
  await guest.locator("#locked").waitFor({ state: "hidden" });
  await third.click("#retry");
  await says(third, "connected");
  await host.keyboard.press("Escape");
  await done({ pages: [...going.pages, third] });
});

test("a guest has no host's controls; the host ends the call for everybody", async () => {
  const going = await call();
  const [host, guest] = going.pages;
  await guest.click("#open-settings");
  assert.equal(await guest.locator("#close-room").isVisible(), false);
  assert.equal(await guest.locator(".tile .kick").isVisible(), false);
  await guest.click("#close-settings");
  await host.click("#open-settings");
  await host.click("#close-room");
  await host.locator("#confirm[open]", { hasText: "End the call for everybody?" }).waitFor();
  await host.keyboard.press("Escape");
  await host.locator("#confirm").waitFor({ state: "hidden" });
  await picturesArriveOnBoth(host, guest);
  await host.click("#open-settings");
  await host.click("#close-room");
  await host.click("#confirm-yes");
  await guest.locator("#refused h1", { hasText: "The call is over" }).waitFor();
  await host.locator("#ended:not([hidden])").waitFor();
  assert.equal(await guest.evaluate(() => window.keptConnections.at(-1).connectionState), "closed");
  for (const page of going.pages) await page.close();
});

test("only the socket is cut: a relayed call goes on, and the session is resumed", async () => {
  const going = await call("?relay=udp", [ada, bob], (page) =>
    page.addInitScript(() => {
      const Real = window.WebSocket;
      window.sockets = [];
      window.cut = false;
      window.WebSocket = class extends Real {
        constructor(...parameters) {
          if (window.cut) throw new DOMException("cut", "NetworkError");
          super(...parameters);
          window.sockets.push(this);
        }
      };
    }),
  );
  const [host, guest] = going.pages;
  const before = await look(guest);
  await guest.evaluate(() => {
    window.cut = true;
    window.sockets.at(-1).close(4000, "cut");
  });
  await guest.locator(".toast", { hasText: "The server is out of reach" }).waitFor();
  await host.locator(".tile .tile-state", { hasText: "lost the server" }).waitFor();
  for (let time = 0; time < 3; time += 1) await picturesArriveOnBoth(host, guest);
  await guest.evaluate(() => {
    window.cut = false;
    dispatchEvent(new Event("online"));
  });
  await guest.locator(".toast", { hasText: "The server is back" }).waitFor();
  await host.locator(".tile .tile-state:empty").waitFor({ state: "attached" });
  await picturesArriveOnBoth(host, guest);
  const now = await look(guest);
  assert.equal(now.connections, before.connections, "the same connection");
  assert.equal(await guest.evaluate(() => window.sockets.length), 2);
  // And it was our place: a host's word still reaches it.
  await removeBob(host);
  await guest.locator("#refused[data-code=kicked]").waitFor();
  await done(going);
});

test("a relayed call outlives the credential that it began with", async () => {
  const { pages, began } = longCall;
  for (const [index, page] of pages.entries()) {
    const first = began[index];
    await page.waitForFunction(
      (username) => window.keptConnections.at(-1).getConfiguration().iceServers.find((one) => one.username).username !== username,
      first.username,
      { timeout: CREDENTIAL_LIFE * 1_000, polling: 200 },
    );
    assert.ok((await credential(page)).until > first.until);
    await page.waitForFunction(
      (until) => Date.now() / 1_000 > until + 1,
      Math.max(...began.map((one) => one.until)),
      { timeout: CREDENTIAL_LIFE * 1_000, polling: 200 },
    );
  }
  await picturesArriveOnBoth(...pages);
  for (const [index, page] of pages.entries()) {
    const seen = await until(page, "still relayed", ({ state, local }) => state === "connected" && local?.type === "relay");
    assert.equal(seen.connections, 1, "the same connection");
    const now = await credential(page);
    assert.notEqual(now.username, began[index].username);
    assert.notEqual(now.ice, began[index].ice, "the relayed address was renewed, too");
  }
  // Another restart needs another relayed address, which the first credential would no longer get.
  await pages[0].evaluate(() => window.keptConnections.at(-1).restartIce());
  await picturesArriveOnBoth(...pages);
  assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
});
