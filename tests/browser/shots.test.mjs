// Every page and state, photographed at two sizes, light and dark, for people to look at; nothing may stick out.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { DESKTOP, PHONE, startBrowser } from "./support/browser.mjs";
import { enter, hangUp, join, newRoom, picturesArriveOnBoth, says } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

const SHOTS = process.env.SHOTS_DIR ?? fileURLToPath(new URL("../../target/shots", import.meta.url));
/** Four people at once, without a GPU. */
const FEW_PICTURES = ["--use-fake-device-for-media-stream=device-count=1,fps=5"];
const SIZES = [
  { name: "phone", viewport: PHONE, colorScheme: "dark", locale: "fr-FR", hasTouch: true },
  { name: "desktop", viewport: DESKTOP, colorScheme: "light", locale: "en-US" },
];

let server;
let other;
let directory;

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  directory = mkdtempSync(path(tmpdir(), "relais-shots-"));
  const config = path(directory, "relais.toml");
  writeFileSync(config, "[limits]\npeers_per_room = 3\n");
  server = await startServer({ tcp: "0.0.0.0:0", config });
  other = await startBrowser({ ca: server.ca, flags: FEW_PICTURES });
});

after(async () => {
  await other?.close();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

// Every button is pressed at both sizes elsewhere; the pictures of the large one take their time in `tests/run --long`.
for (const { name, ...size } of process.env.RELAIS_LONG ? SIZES : SIZES.slice(0, 1)) {
  test(`pages and states on a ${name}`, async () => {
    const browser = await startBrowser({ ca: server.ca, flags: FEW_PICTURES, ...size });
    const page = await browser.page();
    const shot = (state) => photograph(page, `${name}-${state}`);
    try {
      await homeAndBefore(page, shot);
      await inCall(page, shot);
      await instead(page, shot);
      await byId(page, shot);
    } finally {
      await browser.close();
    }
  });
}

async function photograph(page, name) {
  await page.evaluate(() => Promise.allSettled(document.getAnimations().filter((one) => one.effect.getTiming().iterations === 1).map((one) => one.finished)));
  await page.screenshot({ path: path(SHOTS, `${name}.png`) });
  const wide = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide[0] <= wide[1], `${name} is ${wide[0]} wide in a window of ${wide[1]}`);
  assert.deepEqual(await page.evaluate(nameless), [], `${name}: everything has a name`);
}

/** Controls that a screen reader could only call “button”. Runs in the page. */
function nameless() {
  return [...document.querySelectorAll("button, a, input, select, video[data-label]")]
    .filter((one) => one.checkVisibility())
    .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent.trim()))
    .map((one) => one.outerHTML);
}

async function homeAndBefore(page, shot) {
  await page.goto(server.origin);
  await page.locator("#invite").waitFor();
  await shot("home-no-invitation");
  await page.goto(`${server.origin}/call/${newRoom()}`);
  await enter(page);
  await page.locator("#refused").waitFor();
  await shot("no-invitation");
  await page.goto(`${server.origin}/#t=${server.ready.invite}`);
  await page.locator("#room").waitFor();
  await page.locator("#invite").waitFor({ state: "hidden" });
  await shot("home");
  await page.fill("#where", "?");
  await page.click("#join .inner");
  await shot("home-problem");
  await page.click("#show-qr");
  await page.locator("#qr img.qr").waitFor();
  await shot("home-qr");
}

async function inCall(page, shot) {
  const room = newRoom();
  await page.goto(server.link(room));
  await page.waitForFunction(() => document.querySelector("#preview").videoWidth > 0);
  await shot("prejoin");
  await enter(page, "Ada");
  await says(page, "alone");
  await page.locator("#waiting").waitFor();
  await shot("alone");
  const guests = [await other.page()];
  await join(guests[0], server.link(room), "Bob");
  await picturesArriveOnBoth(page, guests[0]);
  await page.locator("#badge").waitFor();
  await shot("call");
  await page.click("#open-settings");
  await shot("settings");
  await page.click("#show-figures");
  await page.waitForFunction(() => /in|reçu/.test(document.querySelector(".figures-value")?.textContent) && /L/.test(document.querySelector(".chart-line").getAttribute("d")));
  await shot("figures");
  await page.click("#close-figures");
  await page.click("#open-settings");
  await page.locator("#lock").check();
  await page.locator("#locked").waitFor();
  await page.click("#close-settings");
  await shot("locked");
  await page.click("#open-settings");
  await page.locator("#lock").uncheck();
  await page.locator("#settings [data-relay]").check();
  await page.click("#close-settings");
  await page.locator("#badge[data-route=relay]").waitFor();
  await picturesArriveOnBoth(page, guests[0]);
  await shot("relayed");
  await guests[0].click("#stage [data-turn=video]");
  await guests[0].click("#stage [data-turn=audio]");
  await page.click("#stage [data-turn=audio]");
  await page.locator(".tile.dark .muted-mark").waitFor();
  await shot("muted");
  await guests[0].click("#screen");
  await page.locator(".tile.screen").waitFor();
  await picturesArriveOnBoth(page, guests[0]);
  await shot("screen");
  guests.push(await other.page());
  await join(guests[1], server.link(room), "Chloé");
  await picturesArriveOnBoth(page, guests[1]);
  await shot("screen-with-2");
  await guests[0].click("#screen");
  await page.locator(".pictures:not(.presenting)").waitFor();
  await shot("with-2");
  for (const others of [3, 4, 5]) {
    await page.evaluate(crowd, others);
    await shot(`with-${others}`);
  }
  await page.evaluate(crowd, 2);
  await page.locator(".tile .kick").first().click();
  await page.locator("#confirm[open]").waitFor();
  await shot("remove");
  await page.click("#confirm [value='']");
  for (const guest of guests.splice(1)) await guest.close();
  await page.locator("#tiles[data-count='1']").waitFor();
  await server.halt();
  await page.locator(".toast[data-id=server]").waitFor();
  await shot("server-gone");
  await server.again();
  await page.locator(".toast[data-id=server]").waitFor({ state: "detached" });
  await hangUp(page);
  await shot("ended");
  for (const guest of guests) await guest.close();
}

/** More tiles than this machine has power for: copies without pictures. Runs in the page. */
function crowd(wanted) {
  for (const copy of document.querySelectorAll(".tile[data-copy-of]")) copy.remove();
  const tiles = document.querySelectorAll(".tile");
  for (let count = tiles.length; count < wanted; count += 1) {
    const copy = tiles[0].cloneNode(true);
    copy.dataset.copyOf = "0";
    copy.classList.add("dark");
    document.querySelector("#tiles").append(copy);
  }
  for (const id of ["tiles", "pictures"]) document.getElementById(id).dataset.count = String(Math.max(wanted, tiles.length));
}

async function byId(page, shot) {
  const ready = async (one) => {
    await one.goto(`${server.origin}/#t=${server.ready.invite}`);
    await one.goto(`${server.origin}/call-by-id`);
    await one.locator("#copy-id:enabled").waitFor();
  };
  await ready(page);
  await shot("by-id");
  await page.click("#dial .inner");
  await page.click("#show-qr");
  await page.locator("#qr img.qr").waitFor();
  await shot("by-id-qr");
  const guest = await other.page();
  await ready(guest);
  await page.fill("#other", await guest.locator("#my-id").textContent());
  await page.click("#dial .inner");
  await page.locator("#waiting").waitFor();
  await shot("by-id-calling");
  await guest.click("#decline");
  await page.locator(".toast").waitFor();
  await shot("by-id-declined");
  await guest.fill("#other", await page.locator("#my-id").textContent());
  await guest.click("#dial .inner");
  await page.locator("#ring[open]").waitFor();
  await shot("by-id-ringing");
  await page.click("#accept");
  await picturesArriveOnBoth(page, guest);
  await page.locator("#badge").waitFor();
  await shot("by-id-call");
  await hangUp(page);
  await guest.close();
  const bare = await other.page();
  await bare.setViewportSize(page.viewportSize());
  await bare.goto(`${server.origin}/call-by-id`);
  await bare.locator("#problem").waitFor();
  await photograph(bare, `${page.viewportSize().width === PHONE.width ? "phone" : "desktop"}-by-id-refused`);
  await bare.close();
}

async function instead(page, shot) {
  const room = newRoom();
  const guests = [];
  for (let place = 0; place < 3; place += 1) {
    const guest = await other.page();
    guests.push(guest);
    await join(guest, server.link(room));
    await says(guest, place ? "connected" : "alone");
  }
  await join(page, server.link(room));
  await page.locator("#refused").waitFor();
  await shot("full");
  for (const guest of guests.splice(1)) await guest.close();
  await page.click("#retry");
  await says(page, "connected");
  await removeOrClose(guests[0], page, shot);
  for (const guest of guests) await guest.close();
  await page.context().clearPermissions();
  const bare = await startBrowser({ ca: server.ca, devices: false, viewport: page.viewportSize() });
  try {
    const without = await bare.page();
    await without.goto(server.link(newRoom()));
    await without.locator(".device-problem").waitFor();
    await photograph(without, `${page.viewportSize().width === PHONE.width ? "phone" : "desktop"}-no-camera`);
  } finally {
    await bare.close();
  }
}

/** What somebody sees whom a host removed, whose room a host ended, and who finds it locked. */
async function removeOrClose(host, page, shot) {
  const openRoom = async () => {
    await page.goto("about:blank");
    await join(page, server.link(await host.evaluate(() => location.pathname.split("/").pop())));
  };
  await host.locator(".tile .kick").first().click();
  await host.click("#confirm-yes");
  await page.locator("#refused[data-code=kicked]").waitFor();
  await shot("removed");
  await openRoom();
  await says(page, "connected");
  await host.click("#open-settings");
  await host.click("#close-room");
  await host.click("#confirm-yes");
  await page.locator("#refused[data-code=room-closed]").waitFor();
  await shot("closed");
}
