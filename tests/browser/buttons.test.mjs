// Every button of the home and call pages, on a phone in French and on a desktop in English.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { DESKTOP, keepShared, PHONE, shared, startBrowser } from "./support/browser.mjs";
import { enter, join, needsATap, newRoom, picturesArrive, says } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

let server;

before(async () => {
  server = await startServer();
});

after(() => server?.stop());

for (const { name, words, ...size } of [
  { name: "a phone, in French", words: fr(), viewport: PHONE, locale: "fr-FR", hasTouch: true, colorScheme: "dark" },
  { name: "a desktop, in English", words: en(), viewport: DESKTOP, locale: "en-US" },
]) {
  test(`the buttons on ${name}`, async () => {
    const browser = await startBrowser({ ca: server.ca, ...size });
    try {
      await browser.context.grantPermissions(["clipboard-read", "clipboard-write", "camera", "microphone"], { origin: server.origin });
      await browser.context.addInitScript(keepShared);
      const page = await browser.page();
      await home(page, words);
      await beforeTheCall(page, words);
      await inTheCall(page, words, browser);
      await afterTheCall(page, words);
      assert.deepEqual(browser.messages, [], "nothing in the console");
    } finally {
      await browser.close();
    }
  });
}

function en() {
  return { other: "fr", home: "Start a call.", turned: "Lancez un appel.", copied: "Link copied", udp: "To the relay over UDP", settings: "Settings", left: "You left the call" };
}

function fr() {
  return { other: "en", home: "Lancez un appel.", turned: "Start a call.", copied: "Lien copié", udp: "Vers le relais par UDP", settings: "Réglages", left: "Vous avez quitté l’appel" };
}

async function home(page, words) {
  await page.goto(server.origin);
  await page.locator("h1", { hasText: words.home }).waitFor();
  const first = await page.inputValue("#room");
  await page.click("#shuffle");
  const room = await page.inputValue("#room");
  assert.notEqual(room, first);
  await page.click("#copy");
  await page.locator("#copy", { hasText: words.copied }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${server.origin}/call/${room}`);
  await page.click("#show-qr");
  const code = page.locator("#qr img.qr");
  await code.waitFor();
  assert.ok((await code.evaluate((image) => image.naturalWidth)) > 20, "the code is drawn");
  await page.click("#show-qr");
  await code.waitFor({ state: "hidden" });
  await page.click("#show-qr");
  await page.fill("#room", "Chez Zoé");
  await code.waitFor({ state: "hidden" });
  const links = await page.locator(".more a").evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  assert.deepEqual(links, ["/live/chez-zoe/studio", "/call-by-id", "/check"]);
  for (const path of links) {
    const [status, type] = await page.evaluate(async (target) => {
      const answer = await fetch(target);
      return [answer.status, answer.headers.get("content-type")];
    }, path);
    assert.equal(status, 200, path);
    assert.match(type, /^text\/html/, path);
  }
  await page.click(`[data-language=${words.other}]`);
  await page.locator("h1", { hasText: words.turned }).waitFor();
  await page.click(`[data-language=${words.other === "fr" ? "en" : "fr"}]`);
  await page.click("#create .primary");
  await page.locator("#prejoin h1", { hasText: "chez-zoe" }).waitFor();
  await page.click(".brand");
  await page.locator("#where").fill(newRoom());
  await page.click("#join .inner");
}

async function beforeTheCall(page, words) {
  await page.waitForFunction(() => document.querySelector("#preview").videoWidth > 0);
  for (const kind of ["audio", "video"]) {
    const button = page.locator(`#prejoin [data-turn=${kind}]`);
    for (const pressed of ["false", "true"]) {
      await button.click();
      await page.waitForFunction(([name, value]) => document.querySelector(`#prejoin [data-turn=${name}]`).getAttribute("aria-pressed") === value, [kind, pressed]);
    }
  }
  for (const select of ["#pre-camera", "#pre-microphone"]) {
    const options = await page.locator(`${select} option`).evaluateAll((all) => all.map(({ value }) => value));
    await page.selectOption(select, options.at(-1));
  }
  await page.selectOption("#pre-camera", { index: 0 });
  await relayOnly(page, "#prejoin", words);
  await enter(page, "Ada");
  await says(page, "alone");
}

async function relayOnly(page, where, words) {
  const modes = page.locator(`${where} [data-relay-mode]`);
  assert.equal(await modes.isVisible(), false);
  await page.locator(`${where} [data-relay]`).check();
  await modes.waitFor();
  await page.selectOption(`${where} [data-relay-mode]`, "udp");
  assert.equal(await modes.evaluate((select) => select.selectedOptions[0].textContent), words.udp);
  await page.locator(`${where} [data-relay]`).uncheck();
  assert.equal(await modes.isVisible(), false);
}

async function inTheCall(page, words, browser) {
  for (const button of ["#waiting [data-copy]", ".controls [data-copy]"]) {
    await page.click(button);
    await page.locator(".toast", { hasText: words.copied }).first().waitFor();
  }
  await page.click("#share");
  assert.equal((await shared(page)).url, page.url(), "nobody needs an invitation on loopback");
  await page.click("#fullscreen");
  await page.waitForFunction(() => document.fullscreenElement !== null);
  await page.click("#fullscreen");
  await page.waitForFunction(() => document.fullscreenElement === null);
  await page.click("#open-figures");
  await page.locator("#no-figures").waitFor();
  await saved(page, "#save-log");
  await page.click("#close-figures");
  await page.click("#open-settings");
  await page.locator("#settings-title", { hasText: words.settings }).waitFor();
  await page.click(`#settings [data-language=${words.other}]`);
  await page.click(`#settings [data-language=${words.other === "fr" ? "en" : "fr"}]`);
  await page.locator("#settings-title", { hasText: words.settings }).waitFor();
  await relayOnly(page, "#settings", words);
  await saved(page, "#settings [data-save-log]");
  await page.click("#close-settings");
  await theSound(page, browser);
}

/** A browser that wants a tap before it lets sound out. */
async function theSound(page, browser) {
  await page.evaluate(needsATap);
  const guest = await browser.page();
  await join(guest, page.url(), "Bob");
  await page.click("#sound");
  await page.locator("#sound").waitFor({ state: "hidden" });
  await picturesArrive(page);
  await guest.close();
  await says(page, "alone");
}

async function afterTheCall(page, words) {
  await page.click("#hang-up");
  await page.locator("#ended h1", { hasText: words.left }).waitFor();
  const log = await saved(page, "#ended [data-save-log]");
  assert.ok(log.entries.some(({ kind, data }) => kind === "peer-left" && data.reason), "the call is in the log of afterwards");
  await page.click("#rejoin");
  await says(page, "alone");
  await page.click("#hang-up");
  await page.click("#ended a[href='/']");
  await page.locator("#create").waitFor();
}

async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button, { noWaitAfter: true })]);
  const log = JSON.parse(readFileSync(await download.path(), "utf8"));
  assert.equal(log.page, "call");
  return log;
}
