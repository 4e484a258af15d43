// Pages that were written for other servers signal through us unchanged: stock socket.io-client, plain WebSocket.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { newRoom, until } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

const CLIENT = new URL("node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url);

let server;
let pages;
let ada;
let bob;

/** The pages' own server: another origin than ours, as people have it. */
function servePages() {
  const files = createServer((request, response) => {
    const name = new URL(request.url, "http://localhost").pathname;
    const page = /^\/(room|by-id|live)\.html$/.test(name);
    if (!page && name !== "/socket.io.min.js") return response.writeHead(name === "/favicon.ico" ? 204 : 404).end();
    response.setHeader("Content-Type", page ? "text/html; charset=utf-8" : "text/javascript");
    response.end(readFileSync(page ? new URL(`pages${name}`, import.meta.url) : CLIENT));
  });
  return new Promise((done) => files.listen(0, "127.0.0.1", () => done(files)));
}

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
  await page.goto(`http://localhost:${pages.address().port}/${name}.html?${new URLSearchParams({ server: server.origin, ...query })}`);
  return page;
}

const pictures = (page) => until(page, "pictures arrive", ({ state, frames }) => state === "connected" && frames >= 10);

async function done(...open) {
  for (const page of open) await page.close();
  assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
}

for (const transport of ["polling, then WebSocket", "websocket"]) {
  test(`a room page of Socket.IO (${transport})`, async () => {
    const query = { room: newRoom(), ...(transport === "websocket" ? { transport } : {}) };
    const [one, two] = [await open(ada, "room", query), await open(bob, "room", query)];
    for (const page of [one, two]) await page.locator("body[data-ready]").waitFor({ state: "attached" });
    await one.click("#call");
    await Promise.all([pictures(one), pictures(two)]);
    // `const` of a classic script is in the global scope of its page.
    assert.equal(await two.evaluate(() => window.caller), await one.evaluate("socket.id"));
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

test("a streamer and two viewers over plain WebSocket, one of them there first", async () => {
  const early = await open(bob, "live", { role: "viewer", id: 7 });
  await early.waitForFunction("socket.readyState === 1");
  const streamer = await open(ada, "live", { role: "streamer" });
  const late = await open(bob, "live", { role: "viewer", id: 8 });
  await Promise.all([pictures(early), pictures(late)]);
  await done(early, late, streamer);
});
