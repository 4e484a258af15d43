// The life of a call: leaving and coming back, a third person, a reload, a lost socket, a server that restarts.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { clickToPicture, join, look, newRoom, picturesArrive, picturesArriveOnBoth, says, until } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

let server;
let ada;
let bob;
let pages;
let room;

before(async () => {
  server = await startServer();
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca }), startBrowser({ ca: server.ca })]);
});

after(async () => {
  await Promise.all([ada?.close(), bob?.close()]);
  await server?.stop();
});

beforeEach(async () => {
  room = newRoom();
  pages = [await ada.page(), await bob.page()];
});

afterEach(async () => {
  for (const page of pages) await page.close();
});

async function call(query = "") {
  await join(pages[0], server.link(room, query), "Ada");
  await says(pages[0], "alone");
  await join(pages[1], server.link(room, query), "Bob");
  await picturesArriveOnBoth(...pages);
}

test("hang up, and join again", async () => {
  await call();
  await pages[1].click("#hang-up");
  await pages[1].locator("#ended h1", { hasText: "You left the call" }).waitFor();
  assert.equal(await pages[1].evaluate(() => document.querySelector("#self-video").srcObject), null, "the camera is off");
  await says(pages[0], "alone");
  await pages[0].locator(".toast", { hasText: "Bob left" }).waitFor();
  await pages[1].click("#rejoin");
  await picturesArriveOnBoth(...pages);
  assert.equal(await pages[0].locator(".tile").count(), 1);
});

test("a third person is refused in words", async () => {
  await call();
  const third = await bob.page();
  await join(third, server.link(room));
  await third.locator("#refused h1", { hasText: "This room is full" }).waitFor();
  assert.match(await third.locator("#refused-text").textContent(), new RegExp(`“${room}”`));
  await picturesArriveOnBoth(...pages);
  await pages[1].click("#hang-up");
  await third.click("#retry");
  await picturesArriveOnBoth(pages[0], third);
  await third.close();
});

test("a page is reloaded in mid-call", async () => {
  await call();
  await pages[1].click("#stage [data-turn=audio]");
  await pages[1].reload();
  await picturesArriveOnBoth(...pages);
  assert.equal(await pages[1].locator("#stage [data-turn=audio]").getAttribute("aria-pressed"), "false", "still muted");
  assert.equal(await pages[0].locator(".tile").count(), 1);
});

test("a page whose goodbye got lost takes its own place again", async () => {
  await call();
  // The network goes before the page does.
  await pages[1].evaluate(() => {
    WebSocket.prototype.send = () => {};
    WebSocket.prototype.close = () => {};
  });
  await pages[1].reload();
  await picturesArriveOnBoth(...pages);
  assert.equal(await pages[0].locator(".tile").count(), 1);
});

test("the whole browser is closed: the other side is told at once", async () => {
  await join(pages[0], server.link(room), "Ada");
  const third = await startBrowser({ ca: server.ca });
  const theirs = await third.page();
  await join(theirs, server.link(room), "Eve");
  await picturesArriveOnBoth(pages[0], theirs);
  await third.close();
  await says(pages[0], "alone", 5_000);
  await pages[0].locator(".toast", { hasText: "Eve left" }).waitFor();
});

test("the socket breaks: the call goes on, and the session is resumed", async () => {
  await pages[1].addInitScript(() => {
    window.sockets = [];
    window.WebSocket = class extends window.WebSocket {
      constructor(...parameters) {
        super(...parameters);
        window.sockets.push(this);
      }
    };
  });
  await call();
  const before = await look(pages[1]);
  await pages[1].evaluate(() => window.sockets.at(-1).close());
  await pages[1].waitForFunction(() => window.sockets.length === 2 && window.sockets[1].readyState === 1);
  await pages[1].locator(".toast", { hasText: "The server is back" }).waitFor();
  await picturesArriveOnBoth(...pages);
  assert.equal((await look(pages[1])).connections, before.connections, "the same connection");
  // And the resumed session carries messages: relay only needs an offer and an answer.
  await pages[1].click("#open-settings");
  await pages[1].locator("#settings [data-relay]").check();
  await until(pages[1], "the relay takes over", ({ state, local }) => state === "connected" && local?.type === "relay");
});

/** Remembers the longest time without a picture of the other side, and every change of the connection. Runs in the page. */
function watchPictures() {
  const video = document.querySelector(".tile video");
  const connection = window.keptConnections.at(-1);
  let last = performance.now();
  window.longestGap = 0;
  window.stateChanges = [];
  for (const type of ["connectionstatechange", "iceconnectionstatechange"]) {
    connection.addEventListener(type, () => window.stateChanges.push(connection.iceConnectionState));
  }
  const next = () => {
    window.longestGap = Math.max(window.longestGap, performance.now() - last);
    last = performance.now();
    video.requestVideoFrameCallback(next);
  };
  video.requestVideoFrameCallback(next);
}

for (const { name, query, signal } of [
  { name: "a direct call goes on", query: "", signal: "SIGTERM" },
  { name: "a relayed call comes back by itself", query: "?relay=udp", signal: "SIGKILL" },
]) {
  test(`the server restarts in mid-call (${signal}): ${name}`, async (t) => {
    await call(query);
    const before = await Promise.all(pages.map(look));
    for (const page of pages) await page.evaluate(watchPictures);
    await server.halt(signal);
    for (const page of pages) await page.locator(".toast", { hasText: "out of reach" }).waitFor();
    if (!query) await picturesArriveOnBoth(...pages);
    const gone = await Promise.all(pages.map(look));
    await server.again();
    const back = performance.now();
    await Promise.all(pages.map((page, index) => until(page, "pictures again", ({ frames }) => frames > gone[index].frames)));
    const took = Math.round(performance.now() - back);
    t.diagnostic(`pictures ${took} ms after the server was back`);
    // Five seconds, or on a busy machine five times what the beginning of a call takes there.
    const begun = await clickToPicture(pages[1]);
    assert.ok(took < Math.max(5_000, 5 * begun), `back after ${took} ms, where a call begins in ${begun} ms`);
    if (!query) {
      for (const page of pages) {
        t.diagnostic(`longest time without a new picture: ${Math.round(await page.evaluate(() => window.longestGap))} ms`);
        assert.deepEqual(await page.evaluate(() => window.stateChanges), [], "the connection never noticed");
      }
    }
    for (const page of pages) await page.locator(".toast[data-id=server]").waitFor({ state: "detached", timeout: 60_000 });
    await picturesArriveOnBoth(...pages);
    for (const [index, page] of pages.entries()) {
      await says(page, "connected");
      assert.equal((await look(page)).connections, before[index].connections, "the same connection");
      assert.equal(await page.locator(".tile").count(), 1);
    }
    // The new server really carries the call's messages.
    await pages[0].click("#stage [data-turn=video]");
    await pages[1].locator(".tile.dark").waitFor();
    await pages[0].click("#stage [data-turn=video]");
    await pages[1].click("#hang-up");
    await says(pages[0], "alone");
  });
}

test("the server is gone when somebody wants to join: the page keeps trying", async () => {
  await pages[0].goto(server.link(room));
  await pages[0].locator("#enter .primary").waitFor();
  await server.halt();
  await pages[0].locator("#enter .primary").click();
  await says(pages[0], "unreachable");
  await pages[0].locator(".toast", { hasText: "out of reach" }).waitFor();
  await server.again();
  await says(pages[0], "alone");
  await join(pages[1], server.link(room));
  await Promise.all(pages.map((page) => picturesArrive(page)));
});
