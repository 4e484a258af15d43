// A stream from the studio to those who watch: every button, what breaks and comes back, and pages of the live kind.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { keepShared, PHONE, shared, startBrowser } from "./support/browser.mjs";
import { look, until } from "./support/call.mjs";
import {
  counts, endStream, goLive, keepSockets, momentOf, newStream, openStudio, stands, viewerLink, watch, watches,
} from "./support/live.mjs";
import { servePages } from "./support/pages.mjs";
import { startServer } from "./support/server.mjs";

let server;
let pages;
let ada;
let bob;

before(async () => {
  [server, pages] = await Promise.all([startServer(), servePages()]);
  const screen = ["--auto-select-desktop-capture-source=Entire screen"];
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca, flags: screen }), startBrowser({ ca: server.ca, viewport: PHONE, locale: "fr-FR", hasTouch: true })]);
  await ada.context.addInitScript(keepShared);
});

after(async () => {
  await Promise.all([ada?.close(), bob?.close()]);
  pages?.close();
  await server?.stop();
});

/** A server that stops is seen in the console; nothing else may be there. */
async function done(...open) {
  for (const page of open) await page.close();
  const own = [...ada.messages.splice(0), ...bob.messages.splice(0)].filter((message) => !message.includes("WebSocket connection to"));
  assert.deepEqual(own, [], "nothing in the consoles");
}

async function show(viewers = 1, stream = newStream()) {
  const studio = await ada.page();
  await openStudio(studio, server, stream);
  const link = await viewerLink(studio);
  const watching = [];
  for (let index = 0; index < viewers; index += 1) {
    watching.push(await bob.page());
    await watch(watching[index], link);
  }
  return { studio, link, watching, stream };
}

const pressed = (page, id) => page.locator(`#${id}`).getAttribute("aria-pressed");

async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), "utf8") };
}

test("a stream to three viewers: before, live, ended and live again", async (context) => {
  const { studio, link, watching } = await show(3);
  assert.match(link, /\/live\/test-stream-[\d-]+#t=/);
  assert.doesNotMatch(await studio.locator("#link").textContent(), /#t=/, "the invite is not read aloud");
  const claims = JSON.parse(atob(link.split("#t=")[1].split(".")[1]));
  assert.equal(claims.role, "viewer", "the link opens no more than watching");
  for (const page of watching) await stands(page, "ready");
  for (const page of [studio, ...watching]) await counts(page, 3);
  assert.equal((await look(watching[0])).frames, 0, "what is seen in the studio is not sent yet");
  await goLive(studio);
  for (const page of watching) await watches(page);
  const began = await momentOf(studio, "relais:live");
  const firsts = await Promise.all(watching.map((page) => momentOf(page, "relais:first-frame")));
  context.diagnostic(`go live to first picture, ms: ${firsts.map((at) => Math.round(at - began)).join(", ")}`);
  assert.match(await studio.locator("#air-time").textContent(), /^\d+:\d\d$/);
  await studio.locator(".figures-card .way[data-route=direct]").nth(2).waitFor();
  const cards = await studio.locator(".figures-card").allTextContents();
  assert.ok(cards.every((card, index) => card.includes(`Viewer ${index + 1}`) && /bit\/s.*ms.*%.*×/.test(card)), cards.join("\n"));
  assert.match(await studio.locator(".figures-card .chart").first().getAttribute("aria-label"), /Data: .*bit\/s/);
  await watching[2].close();
  for (const page of [studio, ...watching.slice(0, 2)]) await counts(page, 2);
  await endStream(studio);
  for (const page of watching.slice(0, 2)) await stands(page, "ended");
  await goLive(studio);
  for (const page of watching.slice(0, 2)) await watches(page);
  const late = await bob.page();
  await watch(late, link);
  await watches(late);
  const waited = (await momentOf(late, "relais:first-frame")) - (await momentOf(late, "relais:join"));
  context.diagnostic(`opening the link of a running stream to first picture, ms: ${Math.round(waited)}`);
  await done(studio, late, ...watching.slice(0, 2));
});

test("every button of the viewers' page", async () => {
  const { studio, watching: [page] } = await show();
  await goLive(studio);
  await watches(page);
  const video = (what) => page.evaluate((name) => document.querySelector("#video")[name], what);
  assert.equal(await video("muted"), true, "it begins without sound, as browsers allow");
  await page.click("#sound");
  assert.deepEqual([await video("muted"), await pressed(page, "mute")], [false, "true"]);
  await page.locator("#sound").waitFor({ state: "hidden" });
  await until(page, "sound", ({ audioEnergy }) => audioEnergy > 0);
  await page.click("#mute");
  assert.deepEqual([await video("muted"), await pressed(page, "mute")], [true, "false"]);
  await page.keyboard.press("m");
  assert.equal(await video("muted"), false);
  await page.click("#play");
  assert.deepEqual([await video("paused"), await pressed(page, "play")], [true, "false"]);
  await page.keyboard.press("k");
  await page.waitForFunction(() => !document.querySelector("#video").paused);
  await page.click("#fullscreen");
  await page.waitForFunction(() => document.fullscreenElement !== null);
  await page.keyboard.press("f");
  await page.waitForFunction(() => document.fullscreenElement === null);
  await page.click("#badge");
  await page.locator(".figures-card").waitFor();
  // Losses and the size of the picture are known from the second reading on.
  await page.waitForFunction(() => /bit\/s.*ms.*%.*×/s.test(document.querySelector(".figures-card").textContent));
  await page.click("#close-figures");
  await page.click("#open-figures");
  await page.keyboard.press("Alt+s");
  await page.locator("#figures").waitFor({ state: "hidden" });
  const copied = page.evaluate(() => new Promise((heard) => {
    navigator.clipboard.write = async ([item]) => heard(await (await item.getType("text/plain")).text());
  }));
  await page.click("#copy");
  assert.match(await copied, /\/live\/.*#t=/);
  await page.click("#open-settings");
  await page.click("#show-figures");
  await page.locator("#figures").waitFor();
  const log = await saved(page, "#save-log");
  assert.match(log.name, /^relais-live-.*\.json$/);
  assert.doesNotMatch(log.text, /eyJ|a=fingerprint|"credential":"(?!\[)/);
  await page.click("#open-settings");
  await page.locator("[data-relay]").check();
  await until(page, "the relay", ({ local }) => local?.type === "relay");
  await page.selectOption("[data-relay-mode]", "tcp");
  await until(page, "the relay over TCP", ({ local, state }) => local?.relay === "tcp" && state === "connected");
  assert.match((await saved(page, "#settings [data-save-log]")).text, /"relay"/);
  await page.click("#settings [data-language=en]");
  assert.match(await page.title(), /live/);
  await page.click("#settings [data-language=fr]");
  assert.match(await page.title(), /en direct/);
  await page.click("#close-settings");
  await page.locator("#badge[data-route=relay]").waitFor();
  await page.click("#open-settings");
  await page.locator("[data-relay]").uncheck();
  await page.keyboard.press("Escape");
  await watches(page);
  await done(studio, page);
});

test("every button of the studio", async () => {
  const { studio, watching: [page] } = await show();
  const says = (key) => studio.locator(`#what[data-text="studio.what.${key}"]`).waitFor();
  await says("camera.mic");
  await studio.click("[data-turn=audio]");
  await says("camera.none");
  await studio.click("[data-turn=video]");
  await says("none.none");
  await studio.click("[data-turn=audio]");
  await studio.click("[data-turn=video]");
  await says("camera.mic");
  await goLive(studio);
  await watches(page);
  await studio.click("[data-turn=video]");
  await stands(page, "dark");
  await studio.click("[data-turn=video]");
  await watches(page);
  await studio.click("#screen");
  await studio.waitForFunction(() => /^studio\.what\.screen\.(mic|both)$/.test(document.querySelector("#what").dataset.text));
  await watches(page);
  await studio.click("#screen");
  await says("camera.mic");
  const ids = await studio.locator("#camera option").evaluateAll((options) => options.map((option) => option.value));
  await studio.selectOption("#camera", ids[2]);
  await studio.selectOption("#microphone", { index: 1 });
  await watches(page);
  await studio.selectOption("#quality", "least");
  const cap = () => window.keptConnections.at(-1).getSenders().find((one) => one.track?.kind === "video").getParameters().encodings[0].maxBitrate;
  await studio.waitForFunction(`(${cap})() === 200000`);
  await studio.selectOption("#quality", "auto");
  await studio.waitForFunction(`(${cap})() === undefined`);
  await studio.locator("[data-relay]").check();
  await studio.locator(".figures-card .way[data-route=relay]").waitFor();
  await watches(page);
  await studio.selectOption("[data-relay-mode]", "tls");
  await watches(page);
  await studio.locator("[data-relay]").uncheck();
  await studio.click("#share");
  assert.match((await shared(studio)).url, /\/live\/.*#t=/);
  await studio.click("#open-qr");
  await studio.locator("#qr-code img").waitFor();
  await studio.click("#close-qr");
  await locksAndRemoves(studio, page);
  const log = await saved(studio, "#save-log");
  assert.match(log.name, /^relais-studio-.*\.json$/);
  assert.match(log.text, /"live"/);
  assert.doesNotMatch(log.text, /eyJ|a=fingerprint/);
  await studio.click("[data-language=fr]");
  assert.equal(await studio.locator("#go-text").textContent(), "Terminer le direct");
  await studio.click("[data-language=en]");
  await endStream(studio);
  await stands(page, "ended");
  await done(studio, page);
});

/** A locked stream takes nobody new; who is removed is told so, and comes back by the same link. */
async function locksAndRemoves(studio, watching) {
  await studio.locator("#lock").check();
  await watching.waitForFunction(() => document.body.dataset.state === "live");
  await studio.locator(".toast", { hasText: "The stream is locked" }).waitFor();
  const late = await bob.page();
  await late.goto(watching.url());
  await late.locator("#refused[data-code=room-locked] h1", { hasText: "Le direct est verrouillé" }).waitFor();
  await studio.locator("#lock").uncheck();
  await studio.locator(".toast", { hasText: "open again" }).waitFor();
  await late.click("#retry");
  await watches(late);
  await studio.locator(".figures-card").nth(1).locator(".remove[aria-label^='Remove Viewer']").click();
  await studio.click("#confirm [value='']");
  await counts(studio, 2);
  await studio.locator(".figures-card").nth(1).locator(".remove").click();
  await studio.click("#confirm-yes");
  await late.locator("#refused[data-code=kicked] h1", { hasText: "Vous avez été exclu du direct" }).waitFor();
  await studio.locator(".toast", { hasText: "was removed" }).waitFor();
  await counts(studio, 1);
  await late.reload();
  await watches(late);
  await late.close();
  await counts(studio, 1);
  await watches(watching);
}

test("a viewer's socket breaks, a server restarts: the pictures go on", async () => {
  const studio = await ada.page();
  const page = await bob.page();
  await page.addInitScript(keepSockets);
  await openStudio(studio, server, newStream());
  const link = await viewerLink(studio);
  await watch(page, link);
  await goLive(studio);
  await watches(page);
  const { connections } = await look(page);
  await page.evaluate(() => window.sockets.at(-1).close());
  await page.waitForFunction(() => window.sockets.length === 2 && window.sockets[1].readyState === 1);
  await watches(page);
  await server.halt("SIGKILL");
  await page.locator(".toast[data-id=server]").waitFor();
  await watches(page);
  await server.again();
  for (const one of [page, studio]) await one.locator(".toast[data-id=server]").waitFor({ state: "detached", timeout: 60_000 });
  await counts(studio, 1);
  await watches(page);
  assert.equal((await look(page)).connections, connections, "one connection from the beginning to the end");
  await done(studio, page);
});

test("a restart of the server in mid-stream, through its relay: back within seconds", async (context) => {
  const { studio, link, watching } = await show(0);
  const page = await bob.page();
  await watch(page, link.replace("#", "?relay=any#"));
  await goLive(studio);
  await watches(page);
  await page.locator("#badge[data-route=relay]").waitFor();
  await server.halt("SIGKILL");
  await server.again();
  const from = performance.now();
  const { frames } = await look(page);
  await until(page, "pictures", (seen) => seen.state === "connected" && seen.frames > frames + 10, 60_000);
  context.diagnostic(`relayed pictures after the server was back, ms: ${Math.round(performance.now() - from)}`);
  await done(studio, page, ...watching);
});

test("the studio is loaded again, is closed, and comes back: those who watch need do nothing", async (context) => {
  const { studio, watching, stream } = await show(2);
  await goLive(studio);
  for (const page of watching) await watches(page);
  const from = performance.now();
  await studio.reload();
  await studio.locator("#air[data-state=live]").waitFor();
  for (const page of watching) await watches(page);
  context.diagnostic(`studio loaded again to pictures at both, ms: ${Math.round(performance.now() - from)}`);
  await studio.close();
  for (const page of watching) await stands(page, "paused");
  const early = await ada.page();
  await openStudio(early, server, stream);
  for (const page of watching) await stands(page, "ready");
  await early.close();
  for (const page of watching) await stands(page, "before", "paused");
  const again = await ada.page();
  await openStudio(again, server, stream);
  for (const page of watching) await stands(page, "ready");
  await goLive(again);
  for (const page of watching) await watches(page);
  await endStream(again);
  for (const page of watching) await stands(page, "ended");
  await again.close();
  await counts(watching[0], 2);
  for (const page of watching) await stands(page, "ended");
  await done(...watching);
});

test("who may not stream, who may not watch, and a stream that has its studio already", async () => {
  const open = server;
  server = await startServer({ tcp: "0.0.0.0:0" });
  const browser = await startBrowser({ ca: server.ca });
  try {
    await refusals(await browser.page(), await browser.page());
    assert.deepEqual(browser.messages.filter((message) => !message.includes("401")), []);
  } finally {
    await browser.close();
    await server.stop();
    server = open;
  }
});

async function refusals(studio, page) {
  const stream = newStream();
  await openStudio(studio, server, stream);
  const link = await viewerLink(studio);
  const refused = (code) => page.locator(`#refused[data-code=${code}]`).waitFor();
  await page.goto(`${server.origin}/live/${stream}`);
  await refused("token-missing");
  await page.fill("#paste-link", link);
  await page.click("#paste .inner");
  await stands(page, "ready");
  await page.goto(`${server.origin}/live/${stream}/studio`);
  await refused("wrong-role");
  await page.goto("about:blank");
  await page.goto(`${server.origin}/live/${stream}/studio#t=${server.ready.invite}`);
  // The tab's invite for this very stream goes before the one for all.
  await refused("wrong-role");
  await page.evaluate(() => sessionStorage.clear());
  await page.goto("about:blank");
  await page.goto(`${server.origin}/live/${stream}/studio#t=${server.ready.invite}`);
  await refused("stream-taken");
  await studio.close();
  await page.click("#retry");
  await page.locator("#go:not([disabled])").waitFor();
  assert.equal((await page.request.get(`${server.origin}/live/a%20b`, { ignoreHTTPSErrors: true })).status(), 404);
}

const theirs = (name, query) => pages.address("live", { server: `${server.origin}/?stream=${name}`, ...query });
const pictures = (page) => until(page, "pictures arrive", ({ state, frames }) => state === "connected" && frames >= 10);

test("our studio, and viewers of the live kind beside ours", async () => {
  const { studio, watching: [ours], stream } = await show();
  const first = await bob.page();
  await first.goto(theirs(stream, { role: "viewer", id: 7 }));
  await counts(studio, 2);
  await goLive(studio);
  await Promise.all([watches(ours), pictures(first)]);
  const second = await bob.page();
  await second.goto(theirs(stream, { role: "viewer", id: 8 }));
  await pictures(second);
  await counts(ours, 3);
  await first.close();
  await counts(studio, 2);
  await done(studio, ours, second);
});

test("a streamer of the live kind, and our viewers: also through the relay, and after it was loaded again", async () => {
  const stream = newStream();
  const link = `${server.origin}/live/${stream}#t=${server.ready.invite}`;
  const ours = await bob.page();
  await watch(ours, link);
  await stands(ours, "before");
  const streamer = await ada.page();
  await streamer.goto(theirs(stream, { role: "streamer", ice: `${server.origin}/ice.js` }));
  await watches(ours);
  const late = await bob.page();
  await watch(late, link);
  await Promise.all([watches(late), counts(ours, 2)]);
  await ours.click("#open-settings");
  await ours.locator("[data-relay]").check();
  await until(ours, "the relay", ({ state, local }) => state === "connected" && local?.type === "relay");
  await watches(ours);
  await streamer.reload();
  await Promise.all([watches(ours), watches(late)]);
  await streamer.close();
  await stands(late, "paused");
  await done(ours, late);
});
