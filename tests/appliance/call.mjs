// Two people call each other through the service that `relais install` set up, by the link that it printed and through
// its relay only. Runs in the machine's network namespace: call.mjs LINK CA-FILE. Says "standing" on standard output once
// pictures flow both ways; what the operator does to the service meanwhile must not touch the call, which is looked at
// again when a line comes on standard input.

import assert from "node:assert/strict";
import { createInterface } from "node:readline/promises";

import { startBrowser } from "../browser/support/browser.mjs";
import { clickToPicture, enter, hangUp, look, picturesArriveOnBoth, until } from "../browser/support/call.mjs";

const [link, ca] = process.argv.slice(2);
const ROOM = "appliance";

const operator = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const browsers = await Promise.all([startBrowser({ ca }), startBrowser({ ca })]);
try {
  const pages = await Promise.all(browsers.map((browser) => browser.page()));
  for (const page of pages) await joinFromHome(page);
  await picturesArriveOnBoth(...pages);
  const before = await Promise.all(pages.map(relayed));
  console.log(`standing: relayed over ${before.map(({ local }) => local.relay).join(" and ")}, click to first picture ${await clickToPicture(pages[1])} ms`);

  await operator.next();
  await picturesArriveOnBoth(...pages);
  for (const [side, page] of pages.entries()) {
    const after = await relayed(page);
    assert.equal(after.connections, before[side].connections, "the connection is the one from before");
    assert.ok(after.frames > before[side].frames, "its pictures went on");
  }
  const frames = (await Promise.all(pages.map(look))).map((seen) => seen.frames);
  for (const page of pages) await hangUp(page);
  assert.deepEqual(browsers.flatMap(({ messages }) => messages), [], "nothing in the consoles");
  console.log(`went on: ${frames.join(" and ")} pictures`);
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
  process.stdin.destroy();
}

/** From the link to the home page, by the name of the room to the preview, and in with the relay alone. */
async function joinFromHome(page) {
  await page.goto(link);
  await page.fill("#where", ROOM);
  await page.click("#join [type=submit]");
  await page.locator("#enter [data-relay]").check();
  await enter(page);
}

/** Both ends of the selected pair are relayed addresses. */
async function relayed(page) {
  const seen = await until(page, "a selected pair", ({ local, remote }) => local && remote);
  assert.equal(seen.local.type, "relay");
  assert.equal(seen.remote.type, "relay");
  return seen;
}
