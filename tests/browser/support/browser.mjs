// Real Chromium: every start is an instance of its own, with a home, a profile and a certificate store of its own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
// The second fake camera speaks MJPEG, which feeds a <video> but, without a GPU, no connection; the third does again.
const FAKE_DEVICES = ["--use-fake-device-for-media-stream=device-count=3", "--use-fake-ui-for-media-stream"];

/** What anything may take on a machine that does much else; outcomes are asserted, not times. */
const DEADLINE = 90_000;

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1440, height: 900 };

/**
 * Starts an instance that trusts the CA in the file `ca`. `keep: false` leaves its RTCPeerConnection untouched.
 * `devices: false` has neither camera nor microphone; `refuse: true` has them and says no for its user.
 */
export async function startBrowser({ ca = null, devices = true, refuse = false, flags = [], keep = true, ...options } = {}) {
  const home = mkdtempSync(join(tmpdir(), "relais-chromium-"));
  if (ca) {
    const store = join(home, ".pki", "nssdb");
    mkdirSync(store, { recursive: true });
    trust(store, ca);
  }
  const media = devices ? FAKE_DEVICES.slice(0, refuse ? 1 : 2) : [];
  const context = await chromium.launchPersistentContext(join(home, "profile"), {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    timeout: DEADLINE,
    args: [...FLAGS, ...media, ...flags],
    env: { ...process.env, HOME: home },
    locale: "en-US",
    viewport: DESKTOP,
    ...options,
  });
  context.setDefaultTimeout(DEADLINE);
  if (keep) await context.addInitScript(keepPeerConnections);
  const browser = {
    context,
    messages: [],
    async page() {
      const page = await context.newPage();
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) browser.messages.push(`${message.type()}: ${message.text()}`);
      });
      page.on("pageerror", (error) => browser.messages.push(`uncaught: ${error.stack ?? error}`));
      return page;
    },
    async close() {
      await context.close();
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
      noErrors(browser.messages);
    },
  };
  return browser;
}

/** No error was in the console, but for what browsers themselves note of requests that were refused or not answered. */
export function noErrors(messages) {
  const isError = (text) => /^(error|uncaught):/.test(text) && !/Failed to load resource|WebSocket connection to|WebSocket is closed/.test(text);
  assert.deepEqual(messages.filter(isError), [], "no error in the console");
}

/** Puts a CA into a new certificate store in the directory `store`: Firefox's profile, or where Chromium looks on Linux. */
export function trust(store, ca) {
  execFileSync("certutil", ["-N", "-d", `sql:${store}`, "--empty-password"]);
  execFileSync("certutil", ["-A", "-d", `sql:${store}`, "-t", "C,,", "-n", "relais test", "-i", ca]);
}

/** A system with a chooser to share by, which Chromium on Linux has not: give it to `addInitScript`. */
export function keepShared() {
  navigator.share = async (what) => {
    window.shared = what;
  };
}

/** What the page gave to the system's chooser. */
export async function shared(page) {
  await page.waitForFunction(() => window.shared);
  return page.evaluate(() => window.shared);
}

/** Runs in the page before its own scripts: remembers every connection that it makes, so that a test can ask it. */
function keepPeerConnections() {
  if (!window.RTCPeerConnection) return;
  const kept = [];
  Object.defineProperty(window, "keptConnections", { value: kept });
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      kept.push(this);
    }
  };
}
