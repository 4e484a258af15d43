// More than two in a room that allows it: everybody sees everybody, and the figures tell how. RELAIS_LONG: six people.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { hangUp, join, newRoom } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

const PEOPLE = ["Ada", "Bob", "Chloé", "Dmitri", "Esi", "Farid"].slice(0, process.env.RELAIS_LONG ? 6 : 3);
/** Pictures are drawn and encoded without a GPU here, several times each. */
const LIGHT = { viewport: { width: 640, height: 480 }, flags: ["--use-fake-device-for-media-stream=device-count=1,fps=5"] };
const DEADLINE = process.env.RELAIS_LONG ? 120_000 : 30_000;

let server;
let browsers;
let pages;

before(async () => {
  server = await startServer({}, `[limits]\npeers_per_room = ${PEOPLE.length}\n`);
  browsers = await Promise.all(PEOPLE.slice(0, 2).map(() => startBrowser({ ca: server.ca, ...LIGHT })));
  const room = newRoom();
  pages = [];
  for (const [index, name] of PEOPLE.entries()) {
    pages.push(await browsers[index % 2].page());
    await join(pages[index], server.link(room), name);
  }
});

after(async () => {
  await Promise.all((browsers ?? []).map((browser) => browser.close()));
  await server?.stop();
});

/** Pictures decoded so far, for each living connection of a page. */
function decoded(page) {
  return page.evaluate(async () => {
    const live = window.keptConnections.filter((one) => one.connectionState === "connected");
    const reports = await Promise.all(live.map((one) => one.getStats()));
    return reports.map((report) => [...report.values()].find((one) => one.type === "inbound-rtp" && one.kind === "video")?.framesDecoded ?? 0);
  });
}

/** Every page gets new pictures from `others` others. */
async function everybodySees(all, others) {
  const end = performance.now() + DEADLINE;
  for (const page of all) {
    const first = await decoded(page);
    for (;;) {
      const now = await decoded(page);
      if (now.length === others && now.every((frames, index) => frames >= (first[index] ?? 0) + 5)) break;
      assert.ok(performance.now() < end, `pictures of ${others} others: decoded ${JSON.stringify(now)}`);
      await page.waitForTimeout(200);
    }
  }
}

test(`${PEOPLE.length} people see each other, under their names`, async () => {
  await everybodySees(pages, PEOPLE.length - 1);
  for (const [index, page] of pages.entries()) {
    const names = await page.locator(".tile .name").allTextContents();
    assert.deepEqual(names.sort(), PEOPLE.filter((_, other) => other !== index).sort());
    assert.equal(await page.locator("#status").textContent(), "Connected");
    await page.waitForFunction(() => [...document.querySelectorAll(".tile video")].every((video) => video.videoWidth > 0));
  }
});

test("who shares out pictures to several sends smaller ones", async () => {
  const limits = () =>
    pages[0].evaluate(() =>
      window.keptConnections
        .filter((one) => one.connectionState === "connected")
        .map((one) => one.getSenders().find((sender) => sender.track?.kind === "video").getParameters().encodings[0].maxBitrate),
    );
  const share = Math.round(3_000_000 / (PEOPLE.length - 1));
  assert.deepEqual(await limits(), PEOPLE.slice(1).map(() => share));
});

test("mute and camera are seen by all, and a shared screen is large", async () => {
  const [one, ...others] = pages;
  const tileOn = (page, rest = "") => page.locator(`.tile${rest}`, { has: page.locator(".name", { hasText: "Ada" }) });
  await one.click("#stage [data-turn=audio]");
  for (const page of others) await tileOn(page).locator(".muted-mark").waitFor();
  await one.click("#stage [data-turn=video]");
  for (const page of others) await tileOn(page, ".dark").waitFor();
  await one.click("#stage [data-turn=video]");
  await one.click("#stage [data-turn=audio]");
  await one.click("#screen");
  for (const page of others) {
    await tileOn(page, ".screen").waitFor();
    const sizes = await page.locator(".tile").evaluateAll((all) => all.map((tile) => [tile.matches(".screen"), tile.getBoundingClientRect()]));
    const area = ([, { width, height }]) => width * height;
    const screen = area(sizes.find(([is]) => is));
    for (const size of sizes.filter(([is]) => !is)) assert.ok(screen > 2 * area(size), "the screen is the largest");
  }
  await one.click("#screen");
  for (const page of others) await tileOn(page, ":not(.screen)").waitFor();
});

test("figures: by button, badge, key and settings; for each person, with charts", async () => {
  const [page] = pages;
  const panel = page.locator("#figures");
  await page.click("#open-figures");
  await panel.waitFor();
  assert.equal(await page.locator("#open-figures").getAttribute("aria-pressed"), "true");
  await page.locator(".figures-card").nth(PEOPLE.length - 2).waitFor();
  // Two readings make a rate.
  await page.waitForFunction(() => [...document.querySelectorAll(".figures-card")].every((card) => /\d+(\.\d)? [kM]bit\/s · out \d/.test(card.textContent)));
  await page.waitForFunction(() => [...document.querySelectorAll(".figures-card")].every((card) => /Loss.*\d %.*Picture in\d+×\d+, \d+\/s/.test(card.textContent)));
  const cards = await page.locator(".figures-card").evaluateAll((all) =>
    all.map((card) => ({
      name: card.querySelector("h3").textContent,
      way: card.querySelector(".way").textContent,
      charts: [...card.querySelectorAll("svg.chart")].map((svg) => svg.getAttribute("aria-label")),
    })),
  );
  assert.deepEqual(cards.map(({ name }) => name).sort(), PEOPLE.slice(1).sort());
  for (const { way, charts } of cards) {
    assert.equal(way, "Direct");
    assert.match(charts[0], /^Data: in [\d.]+ [kM]bit\/s · out [\d.]+ [kM]bit\/s$/);
    assert.match(charts[1], /^Round trip: [\d.]+ ms$/);
    assert.match(charts[2], /^Loss: in [\d.]+ % · out ([\d.]+ %|–)$/);
  }
  await page.waitForFunction(() => /^M\d.*L\d/.test(document.querySelector(".chart-line").getAttribute("d")), null, { polling: 100 });
  await page.keyboard.press("Alt+s");
  await panel.waitFor({ state: "hidden" });
  await page.click("#badge");
  await panel.waitFor();
  await page.click("#close-figures");
  await panel.waitFor({ state: "hidden" });
  await page.click("#open-settings");
  await page.click("#show-figures");
  await panel.waitFor();
  assert.equal(await page.locator("#settings").evaluate((dialog) => dialog.open), false);
});

test("the saved log tells what happened, and no secrets", async () => {
  const [page] = pages;
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save-log", { noWaitAfter: true })]);
  assert.match(download.suggestedFilename(), /^relais-call-\d{4}-\d{2}-\d{2}T\d{6}\.json$/);
  const text = readFileSync(await download.path(), "utf8");
  const log = JSON.parse(text);
  const kinds = new Set(log.entries.map(({ kind }) => kind));
  for (const kind of ["opened", "server", "joined", "peer", "state", "candidate", "route", "figures"]) assert.ok(kinds.has(kind), `${kind} is in the log`);
  assert.ok(log.entries.some(({ kind, data }) => kind === "state" && data.connection === "connected"));
  const secrets = await page.evaluate(() => ({
    token: Object.values(sessionStorage).join(" "),
    sdp: window.keptConnections.map((one) => one.localDescription?.sdp ?? "").join(""),
    servers: window.keptConnections.flatMap((one) => one.getConfiguration().iceServers),
  }));
  const found = [
    ...server.ready.invite.split("."),
    ...[...secrets.sdp.matchAll(/a=ice-(?:ufrag|pwd):(\S+)/g)].map(([, secret]) => secret),
    ...secrets.servers.flatMap(({ username, credential }) => [username, credential]).filter(Boolean),
  ];
  assert.ok(found.length > 6, "there are secrets to look for");
  for (const secret of found) assert.ok(!new RegExp(`(^|[^\\w+/])${secret.replace(/[^\w]/g, "\\$&")}`).test(text), `${secret} is in the log`);
});

test("one leaves, and the others stay together; the room is full again with the next", async () => {
  const [one, ...others] = pages;
  await hangUp(one);
  await everybodySees(others, PEOPLE.length - 2);
  for (const page of others) assert.equal(await page.locator(".tile").count(), PEOPLE.length - 2);
  await one.click("#rejoin");
  await everybodySees(pages, PEOPLE.length - 1);
  const late = await browsers[0].page();
  await join(late, await others[0].evaluate(() => location.href), "Late");
  await late.locator("#refused h1", { hasText: "This room is full" }).waitFor();
  assert.deepEqual(browsers.flatMap(({ messages }) => messages), [], "nothing in the consoles");
});
