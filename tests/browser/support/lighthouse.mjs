// Lighthouse on one page, in a Chromium of its own that trusts the server's CA.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import lighthouse, { desktopConfig } from "lighthouse";
import puppeteer from "puppeteer-core";

import { trust } from "./browser.mjs";

/** Starts the browser that `audit` uses. It has a fake camera and microphone. */
export async function startAuditor({ ca }) {
  const home = mkdtempSync(join(tmpdir(), "relais-lighthouse-"));
  const store = join(home, ".pki", "nssdb");
  mkdirSync(store, { recursive: true });
  trust(store, ca);
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
    env: { ...process.env, HOME: home },
  });
  return {
    browser,
    async close() {
      await browser.close();
      rmSync(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/**
 * Scores (0 to 100) of `url` in the named categories of Lighthouse, and what was less than perfect. `page` is used as it
 * is, with what its tab has kept. `desktop: false` is Lighthouse's own slow telephone.
 */
export async function audit(page, url, categories, { desktop = false } = {}) {
  const flags = { onlyCategories: categories, output: "json", logLevel: "error", disableStorageReset: true };
  const { lhr } = await lighthouse(url, flags, desktop ? desktopConfig : undefined, page);
  if (lhr.runtimeError) throw new Error(`Lighthouse on ${url}: ${lhr.runtimeError.code}: ${lhr.runtimeError.message}`);
  const scores = {};
  const flaws = [];
  for (const { id, score, auditRefs } of Object.values(lhr.categories)) {
    scores[id] = Math.round(score * 100);
    for (const { id: audit, weight } of auditRefs) {
      const { score: one, title, displayValue = "", details } = lhr.audits[audit];
      if (weight === 0 || one === null || one === 1) continue;
      const items = JSON.stringify(details?.items ?? []).slice(0, 600);
      flaws.push(`${id}: ${title} ${displayValue} (${one}) ${items}`);
    }
  }
  return { scores, flaws };
}
