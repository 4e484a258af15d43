// The pages of a stream in every state, at two sizes, light and dark, in both languages: photographed, and looked at by axe.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join as path } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { accessible } from "./support/axe.mjs";
import { DESKTOP, PHONE, startBrowser } from "./support/browser.mjs";
import { endStream, goLive, newStream, openStudio, stands, viewerLink, watch, watches } from "./support/live.mjs";
import { startServer } from "./support/server.mjs";

const SHOTS = process.env.SHOTS_DIR ?? fileURLToPath(new URL("../../target/shots", import.meta.url));
const SIZES = [
  { name: "phone", viewport: PHONE, colorScheme: "dark", locale: "fr-FR", hasTouch: true },
  { name: "desktop", viewport: DESKTOP, colorScheme: "light", locale: "en-US" },
];

let server;
let other;

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  // Not on loopback alone: there nobody needs an invitation.
  server = await startServer({ tcp: "0.0.0.0:0" });
  other = await startBrowser({ ca: server.ca });
});

after(async () => {
  await other?.close();
  await server?.stop();
});

// As in shots.test.mjs: the pictures of the large one take their time in `tests/run --long`.
for (const { name, ...size } of process.env.RELAIS_LONG ? SIZES : SIZES.slice(0, 1)) {
  test(`the pages of a stream on a ${name}`, async () => {
    const browser = await startBrowser({ ca: server.ca, ...size });
    const shot = (page, state) => photograph(page, `live-${name}-${state}`, size.colorScheme);
    try {
      await states(await browser.page(), await browser.page(), shot);
      const own = browser.messages.filter((message) => !/401|WebSocket connection to/.test(message));
      assert.deepEqual(own, [], "nothing in the console");
    } finally {
      await browser.close();
    }
    const bare = await startBrowser({ ca: server.ca, devices: false, ...size });
    try {
      await withoutDevices(await bare.page(), shot);
    } finally {
      await bare.close();
    }
  });
}

async function photograph(page, name, usual) {
  await page.bringToFront();
  await page.evaluate(() => Promise.allSettled(document.getAnimations().filter((one) => one.effect.getTiming().iterations === 1).map((one) => one.finished)));
  await page.screenshot({ path: path(SHOTS, `${name}.png`), fullPage: name.includes("studio") });
  const wide = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide[0] <= wide[1], `${name} is ${wide[0]} wide in a window of ${wide[1]}`);
  await accessible(page, name);
  // In the other light only the colours are others.
  await page.emulateMedia({ colorScheme: usual === "dark" ? "light" : "dark" });
  await accessible(page, `${name}, in the other light`, ["color-contrast"]);
  await page.emulateMedia({ colorScheme: usual });
}

async function states(page, viewer, shot) {
  const stream = newStream();
  await viewer.goto(`${server.origin}/live/${stream}`);
  await viewer.locator("#refused").waitFor();
  await shot(viewer, "no-invitation");
  await watch(viewer, `${server.origin}/live/${stream}#t=${server.ready.invite}`);
  await stands(viewer, "before");
  await shot(viewer, "before");
  await openStudio(page, server, stream);
  await shot(page, "studio-off");
  const second = await other.page();
  await watch(second, await viewerLink(page));
  await stands(viewer, "ready");
  await shot(viewer, "ready");
  await goLive(page);
  for (const one of [viewer, second]) await watches(one);
  await page.locator(".figures-card .way:not([hidden])").nth(1).waitFor();
  await shot(page, "studio-live");
  await shot(viewer, "live");
  await viewer.click("#sound");
  await viewer.click("#open-figures");
  await viewer.locator(".figures-card").waitFor();
  await shot(viewer, "figures");
  await viewer.click("#open-settings");
  await viewer.locator("#settings [data-relay]").check();
  await viewer.locator("#badge[data-route=relay]").waitFor({ state: "attached" });
  await shot(viewer, "settings");
  await viewer.click("#close-settings");
  await viewer.click("#close-figures");
  await watches(viewer);
  await shot(viewer, "relayed");
  await page.click("#open-qr");
  await page.locator("#qr-code img").waitFor();
  await shot(page, "studio-qr");
  await page.click("#close-qr");
  await page.click("[data-turn=video]");
  await stands(viewer, "dark");
  await shot(viewer, "dark");
  await page.click("[data-turn=audio]");
  await shot(page, "studio-nothing");
  await page.click("[data-turn=video]");
  await watches(viewer);
  await server.halt();
  for (const one of [page, viewer]) await one.locator(".toast[data-id=server]").waitFor();
  await shot(page, "studio-server-gone");
  await shot(viewer, "server-gone");
  await server.again();
  for (const one of [page, viewer]) await one.locator(".toast[data-id=server]").waitFor({ state: "detached" });
  await watches(viewer);
  await endStream(page);
  await stands(viewer, "ended");
  await shot(viewer, "ended");
  await goLive(page);
  await watches(viewer);
  const rival = await other.page();
  await rival.goto(`${server.origin}/live/${stream}/studio#t=${server.ready.invite}`);
  await rival.locator("#refused[data-code=stream-taken]").waitFor();
  await rival.close();
  await page.goto("about:blank");
  await stands(viewer, "paused");
  await shot(viewer, "paused");
  await second.close();
}

async function withoutDevices(page, shot) {
  await openStudio(page, server, newStream());
  await page.click("#go");
  await page.locator("#go-problem").waitFor();
  await shot(page, "studio-no-devices");
}
