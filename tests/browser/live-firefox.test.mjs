// The pages of a stream in Firefox ESR: its studio to Chromium's viewers, and the other way round.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { until } from "./support/call.mjs";
import { startFirefox } from "./support/firefox.mjs";
import { endStream, goLive, newStream, openStudio, stands, viewerLink, watch, watches } from "./support/live.mjs";
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

for (const from of ["Firefox", "Chromium"]) {
  test(`from ${from}'s studio to both: live, through the relay, ended and live again`, async () => {
    const studio = await (from === "Firefox" ? firefox : chromium).page();
    await openStudio(studio, server, newStream());
    const link = await viewerLink(studio);
    const watching = [await firefox.page(), await chromium.page()];
    for (const page of watching) {
      await watch(page, link);
      await stands(page, "ready");
    }
    await goLive(studio);
    for (const page of watching) await watches(page);
    await watching[0].click("#sound");
    await watching[0].waitForFunction(() => !document.querySelector("#video").muted && !document.querySelector("#video").paused);
    await watching[0].click("#open-settings");
    await watching[0].locator("#settings [data-relay]").check();
    await until(watching[0], "the relay", ({ state, local }) => state === "connected" && local?.type === "relay");
    await watching[0].click("#close-settings");
    await watches(watching[0]);
    await endStream(studio);
    for (const page of watching) await stands(page, "ended");
    await goLive(studio);
    for (const page of watching) await watches(page);
    for (const page of [studio, ...watching]) await page.close();
    assert.deepEqual([...firefox.messages, ...chromium.messages], [], "nothing in the consoles");
  });
}
