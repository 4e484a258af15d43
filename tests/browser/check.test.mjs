// The check page as people use it: every button, both languages, telephone and desktop. Staged faults that need a network
// of their own are in tests/lab/faults.mjs.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { accessible } from "./support/axe.mjs";
import { DESKTOP, keepShared, PHONE, shared, startBrowser } from "./support/browser.mjs";
import { startServer } from "./support/server.mjs";

const SHOTS = process.env.SHOTS_DIR ?? fileURLToPath(new URL("../../target/shots", import.meta.url));
const LONG = { timeout: 120_000 };
const ATTACHED = { state: "attached", ...LONG };
const GOOD = {
  en: "Everything works: calls can go over UDP, TCP and TLS.",
  fr: "Tout fonctionne : les appels peuvent passer par UDP, TCP et TLS.",
};

let server;
let browser;
/** `localhost` would also be looked for on IPv6, where the server does not listen. */
let origin;

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  server = await startServer({ tcp: "0.0.0.0:0" });
  origin = server.origin.replace("localhost", "127.0.0.1");
  browser = await startBrowser({ ca: server.ca });
  await browser.context.grantPermissions(["clipboard-read", "clipboard-write", "camera", "microphone"], { origin: origin });
});

after(async () => {
  assert.deepEqual(browser?.messages, [], "nothing in the console");
  await browser?.close();
  await server?.stop();
});

/** The page with an invitation; `prepare` runs before it is loaded. */
async function open(mine = browser, { prepare = () => {}, query = "" } = {}) {
  const page = await mine.page();
  await prepare(page);
  await page.goto(`${origin}/check${query}#t=${server.ready.invite}`);
  return page;
}

const checked = (page) => page.locator("body[data-checked]").waitFor(ATTACHED);
const title = (page) => page.locator("#verdict-title").textContent();
const causes = (page) => page.locator("#verdict").getAttribute("data-causes");
const doing = (page, key) => page.locator(`#doing[data-text="${key}"]`).waitFor(ATTACHED);

/** Ends the check once the ways are known: what is asserted needs no call through the relay. */
async function soon(page) {
  await page.locator('#doing[data-text^="check.stage.passage"], body[data-checked]').first().waitFor(ATTACHED);
  if (!(await page.locator("body[data-checked]").count())) await page.click("#again");
  await checked(page);
}

async function saved(page, button) {
  const download = page.waitForEvent("download");
  await page.click(button);
  return readFileSync(await (await download).path(), "utf8");
}

async function photograph(page, name) {
  await page.screenshot({ path: join(SHOTS, `check-${name}.png`), fullPage: true });
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `${name} is ${wide} wide in a window of ${room}`);
  assert.deepEqual(await page.evaluate(nameless), [], `${name}: everything has a name`);
  await accessible(page, name);
}

/** Controls that a screen reader could only call “button”. Runs in the page. */
function nameless() {
  return [...document.querySelectorAll("button, a, input, select, video, meter, progress, svg[role=img]")]
    .filter((one) => one.checkVisibility())
    .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent.trim()))
    .map((one) => one.outerHTML);
}

const SIZES = [
  { name: "phone", language: "fr", viewport: PHONE, colorScheme: "dark", locale: "fr-FR", hasTouch: true },
  { name: "desktop", language: "en", viewport: DESKTOP, colorScheme: "light", locale: "en-US" },
];

// The other tests here are at a desktop, in English.
for (const { name, language, ...size } of process.env.RELAIS_LONG ? SIZES : SIZES.slice(0, 1)) {
  test(`a whole check on a ${name}, and the devices`, async (t) => {
    const mine = await startBrowser({ ca: server.ca, ...size });
    try {
      const page = await open(mine);
      await doing(page, "check.stage.passage.udp");
      await photograph(page, `${name}-running`);
      const started = performance.now();
      await checked(page);
      t.diagnostic(`from the call over UDP to the verdict: ${Math.round(performance.now() - started)} ms`);
      assert.deepEqual([await title(page), await causes(page)], [GOOD[language], ""]);
      const levels = await page.locator(".rows li").evaluateAll((rows) => rows.map((row) => [row.dataset.id, row.dataset.level]));
      assert.deepEqual(levels.filter(([, level]) => !["good", "note", "unknown"].includes(level)), []);
      assert.ok(levels.length >= 10, String(levels));
      await photograph(page, `${name}-good`);
      await page.click("#devices-start");
      await page.locator('#devices-said[data-text="check.devices.heard"]').waitFor();
      await page.locator('#rows-devices [data-id="camera"][data-level="good"]').waitFor();
      await photograph(page, `${name}-devices`);
      await page.click("#devices-stop");
      await page.locator("#devices").waitFor({ state: "hidden" });
      assert.equal(await page.evaluate(() => document.querySelector("#camera").srcObject), null);
      assert.deepEqual(mine.messages, []);
    } finally {
      await mine.close();
    }
  });
}

test("the report is copied and saved, tells what was found, and holds no secret", async () => {
  const page = await open();
  await checked(page);
  const report = JSON.parse(await saved(page, "#download-report"));
  assert.deepEqual([report.verdict.status, report.verdict.causes, report.verdict.title], ["good", [], GOOD.en]);
  for (const transport of ["udp", "tcp", "tls"]) {
    const { ok, sent, received, rtt, mbps } = report.relay[transport];
    assert.ok(ok && sent === 100 && received > 90 && rtt > 0 && mbps > 0, JSON.stringify(report.relay));
  }
  assert.deepEqual([report.client.address, report.server.relayPorts], ["127.0.0.x", [10_000, 29_999]]);
  await page.click("#copy-report");
  await doing(page, "check.copied");
  assert.deepEqual(JSON.parse(await page.evaluate(() => navigator.clipboard.readText())), report);
  const log = await saved(page, "#save-log");
  assert.ok(JSON.parse(log).entries.some(({ kind }) => kind === "verdict"));
  const secrets = [server.ready.invite, ...(await page.evaluate(credentials))];
  assert.ok(secrets.length === 3 && secrets.every(Boolean));
  for (const secret of secrets) assert.ok(!log.includes(secret) && !JSON.stringify(report).includes(secret), secret);
  assert.doesNotMatch(log + JSON.stringify(report), /\d{10}:t\./);
  // The other language, and the same verdict in it.
  await page.click('[data-language="fr"]');
  assert.equal(await title(page), GOOD.fr);
  assert.equal(await page.title(), "Tester ma connexion – Relais");
  await page.click('[data-language="en"]');
  assert.equal(await title(page), GOOD.en);
  await page.close();
});

/** What the page's last connection through the relay was given. Runs in the page. */
function credentials() {
  const entries = window.keptConnections.flatMap((one) => one.getConfiguration().iceServers);
  const { username, credential } = entries.findLast((entry) => entry.username);
  return [username, credential];
}

test("a check is stopped, and made again", async () => {
  let release;
  const held = new Promise((done) => {
    release = done;
  });
  const wait = async (route) => {
    await held;
    await route.continue();
  };
  const page = await open(browser, { prepare: (mine) => mine.route("**/api/ice**", wait) });
  await doing(page, "check.stage.server");
  await page.click("#again");
  release();
  await doing(page, "check.stopped");
  assert.equal(await title(page), "No way to the relay could be tested.");
  assert.equal(await page.locator("#quality-udp .state").textContent(), "Not tested.");
  assert.deepEqual(await page.locator("#again").textContent(), "Check again");
  await page.click("#again");
  await page.locator('#verdict[data-status="running"]').waitFor();
  await soon(page);
  assert.equal(await page.locator("#verdict").getAttribute("data-status"), "good");
  await page.close();
});

test("without an invitation the page says so, and takes one", async () => {
  const page = await browser.page();
  await page.goto(`${origin}/check`);
  await checked(page);
  assert.equal(await title(page), "The server gives this page no configuration; no call gets through the relay.");
  assert.equal(await page.locator("#invite-title").textContent(), "You need an invitation");
  await photograph(page, "no-invitation");
  await page.fill("#paste-link", "nonsense");
  await page.click("#paste .inner");
  assert.equal(await page.locator("#paste-link").getAttribute("aria-invalid"), "true");
  await page.fill("#paste-link", `${origin}/#t=${server.ready.invite}`);
  await page.click("#paste .inner");
  await page.locator("#invite").waitFor({ state: "hidden" });
  await soon(page);
  assert.equal(await page.locator("#verdict").getAttribute("data-status"), "good");
  // The browser itself notes the refusal.
  browser.messages.splice(0, browser.messages.length, ...browser.messages.filter((text) => !text.includes("401")));
  await page.close();
});

test("a WebSocket that does not open, and clocks that differ", async () => {
  const page = await open(browser, {
    prepare: (mine) =>
      mine.addInitScript(() => {
        window.WebSocket = class extends EventTarget {
          constructor() {
            super();
            setTimeout(() => this.dispatchEvent(new Event("close")));
          }
          close() {}
        };
        const now = Date.now;
        Date.now = () => now() - 600_000;
      }),
  });
  await soon(page);
  assert.equal(await causes(page), "websocket-blocked clock-skew");
  assert.equal(await title(page), "Something on the way blocks WebSocket connections; no call gets through the relay.");
  assert.match(await page.locator("#also-list").textContent(), /Your clock and the server’s differ by (599|600|601) s/);
  await page.close();
});

test("a server that is gone", async () => {
  const page = await open(browser, { prepare: (mine) => mine.route("**/api/ice**", (route) => route.abort()) });
  await checked(page);
  assert.equal(await title(page), "The server does not answer; no call gets through the relay.");
  browser.messages.splice(0, browser.messages.length, ...browser.messages.filter((text) => !text.includes("ERR_FAILED")));
  await page.close();
});

test("two devices test together, each shows both results", async () => {
  const guest = await startBrowser({ ca: server.ca, viewport: PHONE, colorScheme: "dark", locale: "fr-FR" });
  try {
    const page = await open(browser, { prepare: (mine) => mine.addInitScript(keepShared) });
    await soon(page);
    await page.click("#with-start");
    const link = await page.locator("#with-address:not(:empty)").textContent();
    assert.match(link, /\/check\?with=check-[a-z0-9-]+#t=ey/);
    await page.click("#with-copy");
    await page.locator('#with-said[data-text="check.with.copied"]').waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), link);
    await page.click("#with-share");
    assert.equal((await shared(page)).url, link);
    const code = page.locator("#with-qr img.qr");
    await code.waitFor();
    assert.ok((await code.evaluate((image) => image.naturalWidth)) > 40, "a QR code of the link");
    await photograph(page, "with-link");

    const other = await guest.page();
    await other.goto(link);
    assert.equal(await other.locator("#verdict").isVisible(), false);
    const both = [page, other];
    for (const one of both) await one.locator('#with-said[data-text="check.with.done"]').waitFor(LONG);
    for (const one of both) await sameResults(one);
    await page.click("#with-picture");
    await other.locator("#with-video").waitFor();
    await other.waitForFunction(() => document.querySelector("#with-video").videoWidth > 0);
    await photograph(other, "phone-with-done");
    await photograph(page, "desktop-with-done");
    await page.click("#with-picture");
    await other.locator("#with-video").waitFor({ state: "hidden", ...LONG });

    await page.click("#with-again");
    await page.locator('#with-said[data-text="check.with.measuring"]').waitFor();
    await page.locator('#with-said[data-text="check.with.done"]').waitFor(LONG);

    await other.selectOption("#with-relay", "tcp");
    await other.locator('[data-row="way"] td', { hasText: "TCP" }).first().waitFor(LONG);
    for (const one of both) await one.locator('#with-said[data-text="check.with.done"]').waitFor(LONG);
    assert.deepEqual(await other.locator('[data-row="way"] td').allTextContents(), ["TCP", "UDP"]);
    await other.click("#with-end");
    await page.locator('#with-said[data-text="check.with.left"]').waitFor(LONG);
    await page.click("#with-end");
    await page.locator("#with-start").waitFor();
    assert.deepEqual(guest.messages, []);
    await other.click("#with-alone");
    await other.locator("#verdict").waitFor();
    await page.close();
  } finally {
    await guest.close();
  }
});

/** Two columns of figures, none of them missing. */
async function sameResults(page) {
  // A slow device is not waited for for ever by the other; what it tells later is shown all the same.
  const isWhole = () => [...document.querySelectorAll("#with-results td")].every((cell) => cell.textContent !== "–");
  await page.waitForFunction(isWhole, null, LONG);
  const rows = await page.locator("#with-results tr").evaluateAll((lines) =>
    lines.map((line) => [line.dataset.row, ...[...line.querySelectorAll("td")].map((cell) => cell.textContent)]),
  );
  assert.deepEqual(rows.map(([row]) => row), ["browser", "way", "rtt", "jitter", "loss", "rate"]);
  assert.deepEqual(rows.flat().filter((cell) => cell === "–"), [], JSON.stringify(rows));
  assert.deepEqual(rows.find(([row]) => row === "way").slice(1), ["UDP", "UDP"]);
}

test("devices that are refused are named", async () => {
  const mine = await startBrowser({ ca: server.ca, refuse: true });
  try {
    const page = await open(mine);
    await page.click("#devices-start");
    await page.locator('#devices-said[data-text="problem.both.denied"]').waitFor();
    await page.locator("#devices").waitFor({ state: "hidden" });
  } finally {
    await mine.close();
  }
});
