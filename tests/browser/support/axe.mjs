// axe-core in a page: injected by the test, past the page's Content-Security-Policy, and never shipped.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const SOURCE = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const GRAVE = new Set(["serious", "critical"]);

/**
 * Looks at `page` as it is now: nothing serious or critical is wrong. `state` says in a failure where that was. `rules`
 * alone are looked at where they are named. Returns what is wrong and less than serious.
 */
export async function accessible(page, state, rules = null) {
  // A colour on its way to another is nobody's contrast.
  await page.evaluate(() => Promise.allSettled(document.getAnimations().filter((one) => one.effect.getTiming().iterations === 1).map((one) => one.finished)));
  const loaded = await page.evaluate(() => typeof window.axe !== "undefined");
  if (!loaded) await page.evaluate(SOURCE);
  const runOnly = rules ? { runOnly: { type: "rule", values: rules } } : {};
  const { violations, passes } = await page.evaluate((options) => window.axe.run(document, options), { resultTypes: ["violations"], ...runOnly });
  if (!rules) assert.ok(passes.length > 5, `${state}: axe looked at the page`);
  const grave = violations.filter(({ impact }) => GRAVE.has(impact));
  assert.deepEqual(grave.map(told), [], `${state}: nothing serious`);
  return violations.map(told);
}

function told({ id, impact, help, nodes }) {
  const where = nodes.slice(0, 5).map(({ html, any }) => `${html.slice(0, 160)} ${any[0]?.message ?? ""}`.trim());
  return `${impact} ${id}: ${help}: ${where.join(" | ")}`;
}
