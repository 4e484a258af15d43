// What people do on the two pages of a stream.

import { until } from "./call.mjs";

const DEADLINE = 90_000;
let streams = 0;

/** A stream that no other test uses. */
export function newStream() {
  streams += 1;
  return `test-stream-${process.pid}-${streams}`;
}

/** Opens the studio of a stream, and waits until it could go live. */
export async function openStudio(page, server, stream, token = server.ready.invite) {
  await page.goto("about:blank");
  await page.goto(`${server.origin}/live/${stream}/studio${token ? `#t=${token}` : ""}`);
  await page.locator("#go:not([disabled])").waitFor();
  await page.locator("#link[data-empty=false]").waitFor();
  await page.waitForFunction(() => document.querySelector("#preview").srcObject !== null || !document.querySelector(".device-problem").hidden);
}

export async function goLive(page) {
  await page.click("#go[data-state=off]");
  await page.locator("#air[data-state=live]").waitFor();
}

export async function endStream(page) {
  await page.click("#go[data-state=live]");
  await page.locator("#air[data-state=off]").waitFor();
}

/** The viewers' link, as the studio's button copies it. The clipboard of all pages is one: it is not asked here. */
export async function viewerLink(page) {
  await page.evaluate(() => {
    navigator.clipboard.write = async ([item]) => {
      window.copied = await (await item.getType("text/plain")).text();
    };
  });
  await page.click("#copy");
  await page.waitForFunction(() => window.copied);
  return page.evaluate(() => window.copied);
}

/** Opens the viewers' page. */
export async function watch(page, link) {
  await page.goto("about:blank");
  await page.goto(link);
  await page.locator("#stage").waitFor();
}

/** Waits until the viewers' page says that it stands so with the stream. */
export async function stands(page, ...words) {
  await page.waitForFunction((wanted) => wanted.includes(document.body.dataset.state), words, { timeout: DEADLINE, polling: 100 });
}

/** Pictures arrive and are shown: ten more than a moment ago. */
export async function watches(page) {
  await stands(page, "live");
  const { frames } = await until(page, "a connection", ({ state }) => state === "connected", DEADLINE);
  await until(page, "pictures", (seen) => seen.state === "connected" && seen.frames >= frames + 10, DEADLINE);
  await page.waitForFunction(() => document.querySelector("#video").videoWidth > 0 && document.querySelector("#waiting").hidden);
}

/** How many are watching, as a page says. */
export async function counts(page, viewers) {
  await page.waitForFunction((wanted) => document.querySelector("#viewers-count").textContent === wanted, String(viewers), { timeout: DEADLINE });
}

/** Milliseconds on the clock that all pages of this machine share. */
export function momentOf(page, mark) {
  return page.evaluate((name) => {
    const last = performance.getEntriesByName(name).at(-1);
    return last ? performance.timeOrigin + last.startTime : null;
  }, mark);
}

/** Remembers the sockets of a page, so that a test can break them: give it to `addInitScript`. */
export function keepSockets() {
  window.sockets = [];
  window.WebSocket = class extends window.WebSocket {
    constructor(...parameters) {
      super(...parameters);
      window.sockets.push(this);
    }
  };
}
