// Lighthouse on each page: accessibility and best practices at least 95; with RELAIS_LONG (`tests/run --long`) also
// performance, as the median of three, since that follows what else the machine does.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { audit, startAuditor } from "./support/lighthouse.mjs";
import { startServer } from "./support/server.mjs";

const GOAL = 95;
const PAGES = [
  { name: "home", path: "/" },
  { name: "call", path: "/call/blue-fox-42" },
  { name: "call by id", path: "/call-by-id" },
  { name: "watching", path: "/live/blue-fox-42" },
  { name: "studio", path: "/live/red-fox-42/studio" },
  { name: "check", path: "/check" },
  { name: "admin", path: "/admin" },
];

let server;
let auditor;

before(async () => {
  server = await startServer();
  auditor = await startAuditor({ ca: server.ca });
});

after(async () => {
  await auditor?.close();
  await server?.stop();
});

async function judge(path, categories, options) {
  const page = await auditor.browser.newPage();
  try {
    return await audit(page, server.origin + path, categories, options);
  } finally {
    await page.close();
  }
}

for (const { name, path } of PAGES) {
  test(`${name}: accessibility and best practices`, async () => {
    const { scores, flaws } = await judge(path, ["accessibility", "best-practices"]);
    for (const [category, score] of Object.entries(scores)) assert.ok(score >= GOAL, `${category} ${score}:\n${flaws.join("\n")}`);
  });
}

if (process.env.RELAIS_LONG) {
  for (const { name, path } of PAGES) {
    for (const desktop of [false, true]) {
      const on = desktop ? "a desktop" : "a phone";
      test(`${name}: performance on ${on}`, async (t) => {
        const runs = [];
        for (let run = 0; run < 3; run += 1) runs.push(await judge(path, ["performance"], { desktop }));
        runs.sort((one, other) => one.scores.performance - other.scores.performance);
        const { scores, flaws } = runs[1];
        t.diagnostic(`${name} on ${on}: ${runs.map((run) => run.scores.performance).join(", ")}`);
        assert.ok(scores.performance >= GOAL, `median ${scores.performance}:\n${flaws.join("\n")}`);
      });
    }
  }
}
