// Call by id: our page with itself, and with a page of another's that speaks stock Socket.IO. The first of two pages is on a
// phone and in French, the second on a desktop and in English.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { PHONE, startBrowser } from "./support/browser.mjs";
import { look, needsATap, picturesArrive, picturesArriveOnBoth, says, until } from "./support/call.mjs";
import { servePages } from "./support/pages.mjs";
import { startServer } from "./support/server.mjs";

let server;
let theirs;
let ada;
let bob;
let pages;

before(async () => {
  [server, theirs] = await Promise.all([startServer(), servePages()]);
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca, viewport: PHONE, locale: "fr-FR", hasTouch: true, colorScheme: "dark" }), startBrowser({ ca: server.ca })]);
});

after(async () => {
  await Promise.all([ada?.close(), bob?.close()]);
  theirs?.close();
  await server?.stop();
});

beforeEach(async () => {
  pages = [await ada.page(), await bob.page()];
  for (const page of pages) await page.goto(`${server.origin}/call-by-id`);
});

afterEach(async () => {
  for (const page of pages) await page.close();
  // Browsers report each attempt to reach a server that is away.
  const messages = [...ada.messages, ...bob.messages].filter((one) => !one.includes("net::ERR_CONNECTION_REFUSED"));
  assert.deepEqual(messages, [], "nothing in the consoles");
});

async function idOf(page) {
  await page.locator("#copy-id:enabled").waitFor();
  return page.locator("#my-id").textContent();
}

async function dial(page, id) {
  await idOf(page);
  await page.fill("#other", id);
  await page.click("#dial .inner");
}

async function talk() {
  await dial(pages[0], await idOf(pages[1]));
  await pages[1].click("#accept");
  await picturesArriveOnBoth(...pages);
}

const toast = (page, words) => page.locator(".toast", { hasText: words }).waitFor();
const inLobby = (page) => page.locator("#lobby:not([hidden])").waitFor();

test("a call: rings, is answered, is seen and heard, and ends for both", async () => {
  const [one, two] = pages;
  const id = await idOf(one);
  await dial(one, await idOf(two));
  await one.locator("#waiting h2", { hasText: "Ça sonne…" }).waitFor();
  await two.locator("#ring[open]").waitFor();
  assert.equal(await two.locator("#caller").textContent(), id);
  assert.equal(await two.title(), "Somebody is calling – Relais");
  await two.click("#accept");
  await picturesArriveOnBoth(...pages);
  for (const page of pages) {
    await says(page, "connected");
    await page.locator("#badge-text", { hasText: "Direct" }).waitFor();
    assert.equal(await page.locator(".tile").count(), 1);
  }
  await one.click("#stage [data-turn=audio]");
  await two.locator(".tile .muted-mark").waitFor();
  await one.click("#stage [data-turn=video]");
  await two.locator(".tile.dark").waitFor();
  await one.click("#stage [data-turn=video]");
  await one.click("#screen");
  await two.locator(".tile.screen").waitFor();
  await one.click("#screen");
  await two.locator(".tile:not(.screen):not(.dark)").waitFor();
  await one.click("#open-figures");
  await one.locator(".figures-card").waitFor();
  await one.waitForFunction(() => /reçu \d+.*bit\/s/.test(document.querySelector(".figures-card").textContent));
  const [download] = await Promise.all([one.waitForEvent("download"), one.click("#save-log", { noWaitAfter: true })]);
  const kept = readFileSync(await download.path(), "utf8");
  const kinds = new Set(JSON.parse(kept).entries.map(({ kind }) => kind));
  for (const kind of ["server", "call", "state", "candidate", "route", "figures"]) assert.ok(kinds.has(kind), `${kind} is in the log`);
  assert.ok(!/ufrag (?!\[removed\])|"credential": "(?!\[removed\])/.test(kept), "no secrets");
  await one.keyboard.press("Alt+s");
  await one.locator("#figures").waitFor({ state: "hidden" });
  await one.click("#fullscreen");
  await one.waitForFunction(() => document.fullscreenElement !== null);
  await one.click("#fullscreen");
  await one.click("#hang-up");
  await inLobby(one);
  await inLobby(two);
  await toast(two, "The other side hung up.");
  for (const page of pages) assert.equal(await page.evaluate(() => document.querySelector("#self-video").srcObject), null, "the camera is off");
  await one.evaluate(needsATap);
  await dial(two, id);
  await one.click("#accept");
  await one.click("#sound");
  await one.locator("#sound").waitFor({ state: "hidden" });
  await picturesArriveOnBoth(...pages);
});

test("declined by button and by key, taken back, and nobody there", async () => {
  const [one, two] = pages;
  for (const decline of [() => two.click("#decline"), () => two.keyboard.press("Escape")]) {
    await dial(one, await idOf(two));
    await two.locator("#ring[open]").waitFor();
    await decline();
    await toast(one, "L’appel a été refusé.");
    await inLobby(one);
    await two.locator("#ring").waitFor({ state: "hidden" });
  }
  await dial(one, await idOf(two));
  await two.locator("#ring[open]").waitFor();
  await one.click("#hang-up");
  await toast(two, "You missed a call from");
  await dial(one, "nobody-has-this");
  await toast(one, "Personne n’a cet identifiant");
  await dial(one, "");
  await one.locator("#dial-problem", { hasText: "Tapez ou collez l’identifiant" }).waitFor();
  await dial(one, await idOf(one));
  await one.locator("#dial-problem", { hasText: "C’est votre propre identifiant" }).waitFor();
});

test("who is talking declines others; two who call each other at once talk", async () => {
  await talk();
  const third = await ada.page();
  pages.push(third);
  await third.goto(`${server.origin}/call-by-id`);
  const busy = await pages[1].evaluate(() => document.querySelector("#my-id").textContent);
  await dial(third, busy);
  await toast(third, "L’appel a été refusé.");
  await pages[0].click("#hang-up");
  await inLobby(pages[1]);
  const ids = [await idOf(third), await idOf(pages[1])];
  await third.fill("#other", ids[1]);
  await pages[1].fill("#other", ids[0]);
  // Without a pointer: the ringing of the other one would be in its way.
  await Promise.all([third, pages[1]].map((page) => page.evaluate(() => document.querySelector("#dial").requestSubmit())));
  await picturesArriveOnBoth(third, pages[1]);
});

test("the link and the QR code call their page", async () => {
  const [one, two] = pages;
  const id = await idOf(two);
  await two.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await two.click("#copy-id");
  await toast(two, "Link copied");
  const link = await two.evaluate(() => navigator.clipboard.readText());
  assert.equal(link, `${server.origin}/call-by-id#call=${id}`);
  await two.click("#show-qr");
  await two.locator("#qr img.qr").waitFor();
  await two.click("#show-qr");
  await two.locator("#qr").waitFor({ state: "hidden" });
  await one.goto("about:blank");
  await one.goto(link);
  await idOf(one);
  assert.equal(await one.locator("#other").inputValue(), id);
  assert.equal(new URL(one.url()).hash, "");
  await one.click("#dial .inner");
  await two.click("#accept");
  await picturesArriveOnBoth(...pages);
});

test("the server restarts: a direct call goes on, and both are reachable under their new ids", async () => {
  await talk();
  const before = await Promise.all(pages.map(look));
  await server.halt();
  await picturesArriveOnBoth(...pages);
  const old = await pages[1].locator("#my-id").textContent();
  await server.again();
  for (const page of pages) await page.waitForFunction((was) => document.querySelector("#my-id").textContent !== was, old);
  // The peer's new id comes over the call itself.
  const other = await pages[1].locator("#my-id").textContent();
  await pages[0].locator(".tile .name", { hasText: other }).waitFor();
  await picturesArriveOnBoth(...pages);
  for (const [index, page] of pages.entries()) assert.equal((await look(page)).connections, before[index].connections, "the same connection");
  await pages[0].click("#hang-up");
  await toast(pages[1], "The other side hung up.");
});

test("the socket breaks: the same id again", async () => {
  const [one] = pages;
  const id = await idOf(one);
  await one.addInitScript(() => {
    window.sockets = [];
    window.WebSocket = class extends window.WebSocket {
      constructor(...parameters) {
        super(...parameters);
        window.sockets.push(this);
      }
    };
  });
  await one.reload();
  const fresh = await idOf(one);
  assert.notEqual(fresh, id);
  await one.evaluate(() => window.sockets.at(-1).close());
  await one.waitForFunction(() => window.sockets.length === 2 && document.querySelector("#presence-text").textContent === "Prêt");
  assert.equal(await idOf(one), fresh);
  await dial(pages[1], fresh);
  await one.click("#accept");
  await picturesArriveOnBoth(...pages);
});

async function tutorial(browser) {
  const page = await browser.page();
  await page.goto(theirs.address("by-id", { server: server.origin }));
  await page.locator("#mine:not(:empty)").waitFor();
  pages.push(page);
  return page;
}

const pictures = (page) => until(page, "pictures arrive", ({ state, frames }) => state === "connected" && frames >= 10);

test("a page of another's is called, and calls", async () => {
  const [one, two] = pages;
  const called = await tutorial(bob);
  await dial(one, await called.locator("#mine").textContent());
  await Promise.all([picturesArrive(one), pictures(called)]);
  await says(one, "connected");
  await one.click("#hang-up");
  const caller = await tutorial(ada);
  await caller.fill("#other", await idOf(two));
  await caller.click("#call");
  await two.click("#accept");
  await Promise.all([picturesArrive(two), pictures(caller)]);
  await says(two, "connected");
});

test("French, the log before a call, and who is not let in", async () => {
  const [one] = pages;
  await one.locator("h1", { hasText: "Appel par identifiant" }).waitFor();
  await one.locator("#presence-text", { hasText: "Prêt" }).waitFor();
  await one.click("#page-bar [data-language=en]");
  await one.locator("h1", { hasText: "Call by id" }).waitFor();
  await one.click("#page-bar [data-language=fr]");
  await one.locator("h1", { hasText: "Appel par identifiant" }).waitFor();
  const [download] = await Promise.all([one.waitForEvent("download"), one.click("#lobby [data-save-log]", { noWaitAfter: true })]);
  assert.match(download.suggestedFilename(), /^relais-call-by-id-/);
  // Not on loopback alone: there nobody needs an invitation.
  const strict = await startServer({ tcp: "0.0.0.0:0" });
  const stranger = await startBrowser({ ca: strict.ca });
  try {
    const page = await stranger.page();
    await page.goto(`${strict.origin}/call-by-id`);
    await page.locator("#problem-text", { hasText: "lets people in by link" }).waitFor();
    assert.equal(await page.locator("#dial").isVisible(), false);
    await page.goto(`${strict.origin}/call-by-id#t=${strict.ready.invite}`);
    await page.reload();
    await idOf(page);
  } finally {
    await stranger.close();
    await strict.stop();
  }
});
