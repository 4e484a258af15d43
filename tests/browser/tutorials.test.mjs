// Pages that were written for other servers signal through us unchanged: stock socket.io-client, plain WebSocket.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { join, newRoom, picturesArrive, says, until } from "./support/call.mjs";
import { servePages } from "./support/pages.mjs";
import { startServer } from "./support/server.mjs";

let server;
let pages;
let ada;
let bob;

before(async () => {
  [server, pages] = await Promise.all([startServer(), servePages()]);
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca }), startBrowser({ ca: server.ca })]);
});

after(async () => {
  await Promise.all([ada?.close(), bob?.close()]);
  pages?.close();
  await server?.stop();
});

async function open(browser, name, query = {}) {
  const page = await browser.page();
  await page.goto(pages.address(name, { server: server.origin, ...query }));
  return page;
}

const pictures = (page) => until(page, "pictures arrive", ({ state, frames }) => state === "connected" && frames >= 10);

async function done(...open) {
  for (const page of open) await page.close();
  assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
}

for (const { name, query, line } of [
  { name: "polling, then WebSocket", query: {} },
  { name: "websocket", query: { transport: "websocket" } },
  { name: "with the line for our ICE servers", query: {}, line: "/ice.js" },
]) {
  test(`a room page of Socket.IO (${name})`, async () => {
    const all = { room: newRoom(), ...query, ...(line ? { ice: server.origin + line } : {}) };
    const [one, two] = [await open(ada, "room", all), await open(bob, "room", all)];
    for (const page of [one, two]) await page.locator("body[data-ready]").waitFor({ state: "attached" });
    await one.click("#call");
    await Promise.all([pictures(one), pictures(two)]);
    // `const` of a classic script is in the global scope of its page.
    assert.equal(await two.evaluate(() => window.caller), await one.evaluate("socket.id"));
    for (const page of [one, two]) {
      const urls = await page.evaluate("pc.getConfiguration().iceServers.flatMap((server) => server.urls)");
      assert.equal(urls[0], "stun:127.0.0.1:9", "the page's own server is kept");
      assert.equal(urls.some((url) => url.startsWith("turn:")), Boolean(line));
    }
    await done(one, two);
  });
}

test("a call-by-id page of Socket.IO", async () => {
  const [one, two] = [await open(ada, "by-id"), await open(bob, "by-id")];
  const id = two.locator("#mine:not(:empty)");
  await id.waitFor();
  assert.equal(await two.locator("#greeting").textContent(), `Coucou user :  ${await id.textContent()}`);
  await one.fill("#other", await id.textContent());
  await one.click("#call");
  await Promise.all([pictures(one), pictures(two)]);
  await done(one, two);
});

test("a streamer and five viewers over plain WebSocket, two of them there first", async () => {
  const view = async (id) => {
    const page = await open(bob, "live", { role: "viewer", id });
    await page.waitForFunction("socket.readyState === 1");
    return page;
  };
  const viewers = [await view(7), await view(8)];
  const streamer = await open(ada, "live", { role: "streamer" });
  for (const id of [9, 10, 11]) viewers.push(await view(id));
  const seen = await Promise.all(viewers.map(pictures));
  assert.ok(seen.every(({ frames }) => frames >= 10), "pictures arrive at all five");
  await done(...viewers, streamer);
});

test("a Socket.IO page and our call page: ours comes second, and calls", async () => {
  const room = newRoom();
  const theirs = await open(ada, "room", { room });
  await theirs.locator("body[data-ready]").waitFor({ state: "attached" });
  const ours = await bob.page();
  await join(ours, server.link(room), "Bob");
  await Promise.all([pictures(theirs), picturesArrive(ours)]);
  await says(ours, "connected");
  assert.equal(await theirs.evaluate(() => document.querySelector("#remote").videoWidth > 0), true);
  await theirs.close();
  await says(ours, "alone");
  await done(ours);
});

test("a Socket.IO page and our call page: theirs comes second, and calls", async () => {
  const room = newRoom();
  const ours = await bob.page();
  await join(ours, server.link(room), "Bob");
  await says(ours, "alone");
  const theirs = await open(ada, "room", { room });
  await theirs.locator("body[data-ready]").waitFor({ state: "attached" });
  await theirs.click("#call");
  await Promise.all([pictures(theirs), picturesArrive(ours)]);
  await ours.click("#hang-up");
  await done(ours, theirs);
});
