// Firefox ESR: the pages in both languages, and calls with Chromium and with itself, direct and through our relay. Firefox
// sends through a relay in Send indications and never binds a channel, which Chromium does.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { enter, hangUp, join, newRoom, picturesArriveOnBoth, says, until } from "./support/call.mjs";
import { startFirefox } from "./support/firefox.mjs";
import { startServer } from "./support/server.mjs";

let server;
let firefox;
let chromium;

before(async () => {
  server = await startServer();
  [firefox, chromium] = await Promise.all([startFirefox({ ca: server.ca }), startBrowser({ ca: server.ca })]);
});

after(async () => {
  await Promise.all([firefox?.close(), chromium?.close()]);
  await server?.stop();
});

function nothingInTheConsoles() {
  assert.deepEqual([...firefox.messages, ...chromium.messages], [], "nothing in the consoles");
}

const CALLS = [
  { callee: "Chromium", query: "" },
  { callee: "Chromium", query: "?relay=udp", relay: "udp" },
  { callee: "Chromium", query: "?relay=tcp", relay: "tcp" },
  { callee: "Chromium", query: "?relay=tls", relay: "tls" },
  { callee: "Firefox", query: "" },
  { callee: "Firefox", query: "?relay=udp", relay: "udp" },
];

// Direct, over UDP and in records of TLS, with either; the rest with `tests/run --long`.
const SHORT = new Set(["Chromium", "Firefox?relay=udp", "Chromium?relay=tls"]);

for (const { callee, query, relay } of CALLS.filter((one) => process.env.RELAIS_LONG || SHORT.has(one.callee + one.query))) {
  test(`Firefox calls ${callee}: ${relay ? `relay only, ${relay}` : "direct"}`, async () => {
    const room = newRoom();
    const pages = [await firefox.page(), await (callee === "Firefox" ? firefox : chromium).page()];
    const [first, second] = pages;
    await join(first, server.link(room, query), "Ada");
    await says(first, "alone");
    await join(second, server.link(room, query), "Bob");
    await picturesArriveOnBoth(first, second);
    for (const page of pages) {
      const { local, remote } = await until(page, "a selected pair", (seen) => seen.local && seen.remote);
      assert.deepEqual([local.type === "relay", remote.type === "relay"], [Boolean(relay), Boolean(relay)]);
      if (relay) assert.equal(local.relay, relay);
      await page.locator("#badge-text", { hasText: relay ? `Relayed over ${relay.toUpperCase()}` : "Direct" }).waitFor();
    }
    for (const page of pages) {
      await hangUp(page);
      await page.locator("#ended").waitFor();
      await page.close();
    }
    nothingInTheConsoles();
  });
}

test("Firefox: the relay is switched on and off in mid-call", async () => {
  const room = newRoom();
  const pages = [await firefox.page(), await chromium.page()];
  for (const page of pages) await join(page, server.link(room));
  await picturesArriveOnBoth(...pages);
  const [page] = pages;
  await page.click("#open-settings");
  await page.locator("#settings [data-relay]").check();
  await until(page, "the relay takes over", ({ state, local }) => state === "connected" && local?.type === "relay");
  await picturesArriveOnBoth(...pages);
  await page.locator("#settings [data-relay]").uncheck();
  await until(page, "the direct way comes back", ({ state, local }) => state === "connected" && local?.type !== "relay");
  await picturesArriveOnBoth(...pages);
  await page.click("#close-settings");
  for (const one of pages) {
    await hangUp(one);
    await one.close();
  }
  nothingInTheConsoles();
});

test("Firefox: the buttons of a call", async () => {
  const room = newRoom();
  const pages = [await firefox.page(), await chromium.page()];
  const [page, other] = pages;
  await join(page, server.link(room), "Ada");
  await join(other, server.link(room), "Bob");
  await picturesArriveOnBoth(...pages);
  for (const [kind, seen] of [["audio", ".tile .muted-mark"], ["video", ".tile.dark"]]) {
    await page.click(`#stage [data-turn=${kind}]`);
    await other.locator(seen).waitFor();
    await page.click(`#stage [data-turn=${kind}]`);
    await other.locator(seen).waitFor({ state: "hidden" });
  }
  await picturesArriveOnBoth(...pages);
  await page.click("#screen");
  await page.locator(".toast", { hasText: "could not be shared" }).waitFor();
  await picturesArriveOnBoth(...pages);
  await page.evaluate(() => {
    // Firefox without a display has no screen to offer: a drawing stands in for it.
    const drawing = document.createElement("canvas");
    const context = drawing.getContext("2d");
    setInterval(() => context.fillRect(Math.random() * 300, Math.random() * 150, 9, 9), 40);
    navigator.mediaDevices.getDisplayMedia = async () => drawing.captureStream(20);
  });
  await page.click("#screen");
  await other.locator(".tile.screen").waitFor();
  await picturesArriveOnBoth(...pages);
  await page.click("#screen");
  await other.locator(".tile:not(.screen)").waitFor();
  await picturesArriveOnBoth(...pages);
  for (const one of pages) {
    await hangUp(one);
    await one.close();
  }
  nothingInTheConsoles();
});

test("Firefox: home and call in French and in English", async () => {
  const page = await firefox.page();
  await page.goto(`${server.origin}/#t=${server.ready.invite}`);
  await page.locator("h1", { hasText: "Start a call. Send the link." }).waitFor();
  await page.click("[data-language=fr]");
  await page.locator("h1", { hasText: "Lancez un appel. Envoyez le lien." }).waitFor();
  assert.equal(await page.title(), "Relais\u00a0: lancer un appel");
  await page.reload();
  await page.locator("h1", { hasText: "Lancez un appel." }).waitFor();
  const name = await page.evaluate(() => document.querySelector("#room").value);
  await page.click("#shuffle");
  await page.waitForFunction((old) => document.querySelector("#room").value !== old, name);
  await page.fill("#where", "???");
  await page.click("#join .inner");
  await page.locator("#join-problem").waitFor();
  await page.click("#create .primary");
  await enter(page);
  await says(page, "alone");
  assert.equal(await page.locator("#status").textContent(), "En attente de quelqu’un");
  await page.click("#open-settings");
  await page.click("#settings [data-language=en]");
  await page.locator("#settings-title", { hasText: "Settings" }).waitFor();
  assert.equal(await page.locator("#status").textContent(), "Waiting for somebody");
  await page.click("#close-settings");
  await hangUp(page);
  await page.close();
  nothingInTheConsoles();
});
