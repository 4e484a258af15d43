// Real Firefox ESR, driven by WebDriver BiDi, with a profile of its own. A page has the methods of Playwright's that the
// tests use, so what a person does on a page is written once for both browsers.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import puppeteer from "puppeteer-core";

import { DESKTOP, noErrors, trust } from "./browser.mjs";

const DEADLINE = 90_000;

const PREFERENCES = {
  // A picture and a tone of its own instead of devices, and nobody is asked.
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  // Everything is on loopback, which ICE leaves out for people.
  "media.peerconnection.ice.loopback": true,
  // Nothing is fetched from outside.
  "media.gmp-manager.updateEnabled": false,
  "browser.safebrowsing.downloads.remote.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "services.settings.server": "data:,none",
};

/**
 * Starts an instance that trusts the CA in the file `ca`. `wrapper` is a program that starts Firefox with its arguments;
 * `preferences` are added to those that every test needs.
 */
export async function startFirefox({ ca = null, locale = "en-US", colorScheme = "light", viewport = DESKTOP, wrapper = null, preferences = {} } = {}) {
  const home = mkdtempSync(join(tmpdir(), "relais-firefox-"));
  const profile = join(home, "profile");
  mkdirSync(profile);
  if (ca) trust(profile, ca);
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: wrapper ?? process.env.FIREFOX ?? execFileSync("which", ["firefox-esr"], { encoding: "utf8" }).trim(),
    headless: true,
    userDataDir: profile,
    defaultViewport: null,
    env: { ...process.env, HOME: home, MOZ_DISABLE_CONTENT_SANDBOX: "1" },
    extraPrefsFirefox: {
      ...PREFERENCES,
      "intl.accept_languages": locale,
      // 0 is dark, 1 is light.
      "layout.css.prefers-color-scheme.content-override": colorScheme === "dark" ? 0 : 1,
      ...preferences,
    },
  });
  const messages = [];
  return {
    messages,
    async page() {
      // A window of its own: a tab behind another has slow timers.
      const page = await browser.newPage({ type: "window" });
      await page.setViewport(viewport);
      await page.evaluateOnNewDocument(keepPeerConnections);
      page.on("console", (message) => {
        if (["error", "warn"].includes(message.type())) messages.push(`${message.type()}: ${message.text()}`);
      });
      page.on("pageerror", (error) => messages.push(`uncaught: ${error.stack ?? error}`));
      return new Page(page);
    },
    async close() {
      await browser.close();
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
      noErrors(messages);
    },
  };
}

/** Runs in the page before its own scripts, as in `browser.mjs`. */
function keepPeerConnections() {
  const kept = [];
  Object.defineProperty(window, "keptConnections", { value: kept });
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      kept.push(this);
    }
  };
}

class Page {
  #page;

  constructor(page) {
    this.#page = page;
  }

  goto(url) {
    return this.#page.goto(url, { waitUntil: "load", timeout: DEADLINE });
  }

  reload() {
    return this.#page.reload({ waitUntil: "load", timeout: DEADLINE });
  }

  url() {
    return this.#page.url();
  }

  title() {
    return this.#page.title();
  }

  evaluate(run, value) {
    return this.#page.evaluate(run, value);
  }

  waitForFunction(check, value, { timeout = DEADLINE } = {}) {
    return this.#page.waitForFunction(check, { timeout, polling: 100 }, value);
  }

  waitForTimeout(ms) {
    return delay(ms);
  }

  click(selector) {
    return this.#page.locator(selector).setTimeout(DEADLINE).click();
  }

  fill(selector, value) {
    return this.#page.locator(selector).setTimeout(DEADLINE).fill(value);
  }

  setViewport(size) {
    return this.#page.setViewport(size);
  }

  screenshot({ path }) {
    return this.#page.screenshot({ path });
  }

  locator(selector, { hasText = "" } = {}) {
    return new Place(this, selector, hasText);
  }

  async close() {
    await this.#page.close();
  }
}

/** What is found at a selector (and holds a text), looked for anew each time. */
class Place {
  #page;
  #what;

  constructor(page, selector, hasText) {
    this.#page = page;
    this.#what = { selector, hasText };
  }

  async waitFor({ state = "visible", timeout = DEADLINE } = {}) {
    try {
      await this.#page.waitForFunction(isThere, { ...this.#what, state }, { timeout });
    } catch (error) {
      const seen = await this.#page.evaluate((selector) => document.querySelector(selector)?.outerHTML.slice(0, 300), this.#what.selector);
      throw new Error(`${JSON.stringify(this.#what)} is not ${state}: ${seen}`, { cause: error });
    }
  }

  textContent() {
    return this.#read("textContent");
  }

  isChecked() {
    return this.#read("checked");
  }

  isVisible() {
    return this.#page.evaluate(isThere, { ...this.#what, state: "visible" });
  }

  click() {
    return this.#page.click(this.#what.selector);
  }

  async check() {
    if (!(await this.isChecked())) await this.click();
  }

  async uncheck() {
    if (await this.isChecked()) await this.click();
  }

  async getAttribute(name) {
    await this.waitFor({ state: "attached" });
    return this.#page.evaluate(({ selector, name }) => document.querySelector(selector).getAttribute(name), { ...this.#what, name });
  }

  async #read(property) {
    await this.waitFor({ state: "attached" });
    return this.#page.evaluate(({ selector, property }) => document.querySelector(selector)[property], { ...this.#what, property });
  }
}

/** Runs in the page. */
function isThere({ selector, hasText, state }) {
  const found = [...document.querySelectorAll(selector)].filter((one) => one.textContent.toLowerCase().includes(hasText.toLowerCase()));
  const visible = found.some((one) => one.checkVisibility({ visibilityProperty: true }));
  return { visible, hidden: !visible, attached: found.length > 0, detached: found.length === 0 }[state];
}
