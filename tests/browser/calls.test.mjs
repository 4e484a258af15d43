// Two browsers in a call, by each of the ways: direct, and through our relay over UDP, TCP and TLS.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { clickToPicture, hangUp, join, newRoom, picturesArriveOnBoth, says, until } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

let server;
let ada;
let bob;

before(async () => {
  server = await startServer();
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca }), startBrowser({ ca: server.ca })]);
});

after(async () => {
  await Promise.all([ada?.close(), bob?.close()]);
  await server?.stop();
});

const WAYS = [
  { name: "default", query: "", badge: "Direct" },
  { name: "relay only, UDP", query: "?relay=udp", relay: "udp", badge: "Relayed over UDP" },
  { name: "relay only, TCP", query: "?relay=tcp", relay: "tcp", badge: "Relayed over TCP" },
  { name: "relay only, TLS", query: "?relay=tls", relay: "tls", badge: "Relayed over TLS" },
];

for (const way of WAYS) {
  test(`a call: ${way.name}`, async (t) => {
    const room = newRoom();
    const pages = [await ada.page(), await bob.page()];
    const [first, second] = pages;
    await join(first, server.link(room, way.query), "Ada");
    await says(first, "alone");
    await join(second, server.link(room, way.query), "Bob");
    await picturesArriveOnBoth(...pages);
    for (const page of pages) {
      const seen = await until(page, "a selected pair", ({ local, remote }) => local && remote);
      if (way.relay) {
        assert.equal(seen.local.type, "relay");
        assert.equal(seen.remote.type, "relay");
        assert.equal(seen.local.relay, way.relay);
      } else {
        assert.notEqual(seen.local.type, "relay");
        assert.notEqual(seen.remote.type, "relay");
      }
      assert.equal(seen.sections, 2, "one section for sound and one for pictures");
      await page.locator("#badge-text", { hasText: way.badge }).waitFor();
      assert.equal(await page.locator("#status").textContent(), "Connected");
    }
    t.diagnostic(`click to first picture, ${way.name}: ${await clickToPicture(second)} ms`);
    for (const page of pages) {
      await hangUp(page);
      await page.close();
    }
    assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
  });
}

test("relay only is switched on and off in mid-call", async () => {
  const room = newRoom();
  const pages = [await ada.page(), await bob.page()];
  for (const page of pages) await join(page, server.link(room));
  await picturesArriveOnBoth(...pages);
  const [page] = pages;
  await page.click("#open-settings");
  await page.locator("#settings [data-relay]").check();
  await until(page, "the relay takes over", ({ state, local }) => state === "connected" && local?.type === "relay");
  await picturesArriveOnBoth(...pages);
  await page.locator("#badge[data-route=relay]").waitFor();
  await pages[1].locator("#badge[data-route=relay]").waitFor();
  await page.locator("#settings [data-relay]").uncheck();
  await until(page, "the direct way comes back", ({ state, local }) => state === "connected" && local?.type !== "relay");
  await picturesArriveOnBoth(...pages);
  await page.click("#close-settings");
  for (const page of pages) {
    await hangUp(page);
    await page.close();
  }
  assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
});
