// Firefox ESR: a call by id, the check of the connection and the administrator's board, in both languages.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { picturesArriveOnBoth, says } from "./support/call.mjs";
import { startFirefox } from "./support/firefox.mjs";
import { startServer } from "./support/server.mjs";

const CHECKED_WITHIN = 90_000;

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

async function done(...pages) {
  for (const page of pages) await page.close();
  assert.deepEqual([...firefox.messages, ...chromium.messages], [], "nothing in the consoles");
}

/** The same element in French and in English again. */
async function speaks(page, selector, [french, english]) {
  await page.click("[data-language=fr]");
  await page.locator(selector, { hasText: french }).waitFor();
  await page.click("[data-language=en]");
  await page.locator(selector, { hasText: english }).waitFor();
}

test("a call by id, from Firefox to Chromium and back", async () => {
  const pages = [await firefox.page(), await chromium.page()];
  const ids = [];
  for (const page of pages) {
    await page.goto(`${server.origin}/call-by-id`);
    await page.waitForFunction(() => !document.querySelector("#copy-id").disabled);
    ids.push(await page.locator("#my-id").textContent());
  }
  for (const [caller, callee] of [[0, 1], [1, 0]]) {
    await pages[caller].fill("#other", ids[callee]);
    await pages[caller].click("#dial .inner");
    await pages[callee].locator("#ring[open]").waitFor();
    await pages[callee].click("#accept");
    await picturesArriveOnBoth(...pages);
    for (const page of pages) await says(page, "connected");
    await pages[caller].click("#hang-up");
    for (const page of pages) await page.locator("#lobby").waitFor();
  }
  await done(...pages);
});

test("the check of the connection", async () => {
  const page = await firefox.page();
  await page.goto(`${server.origin}/check`);
  await page.waitForFunction(() => document.body.dataset.checked, null, { timeout: CHECKED_WITHIN });
  const seen = await page.evaluate(() => document.querySelector("#check").innerText);
  assert.equal(await page.locator("#verdict-title").textContent(), "Everything works: calls can go over UDP, TCP and TLS.", seen);
  assert.equal(await page.evaluate(() => document.querySelector("#verdict").dataset.causes), "", seen);
  await speaks(page, "#verdict-title", ["Tout fonctionne", "Everything works"]);
  await page.click("#devices-start");
  await page.waitForFunction(() => document.querySelector("#camera").videoWidth > 0);
  await page.click("#devices-stop");
  await page.locator("#devices").waitFor({ state: "hidden" });
  await done(page);
});

test("the administrator's board", async () => {
  const page = await firefox.page();
  await page.goto(`${server.origin}/admin`);
  await speaks(page, "#log-in .primary", ["Se connecter", "Log in"]);
  await page.fill("#token", readFileSync(join(dirname(server.ca), "admin-token"), "utf8").trim());
  await page.click("#log-in .primary");
  await page.locator("#dot[data-state=live]").waitFor();
  await page.locator("#people-none").waitFor();
  await page.reload();
  await page.locator("#dot[data-state=live]").waitFor();
  await done(page);
});
