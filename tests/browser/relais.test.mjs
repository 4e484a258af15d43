// relais.js in pages that are not ours: the README's call page as it stands there.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { until } from "./support/call.mjs";
import { readmePage, servePages } from "./support/pages.mjs";
import { startServer } from "./support/server.mjs";

let server;
let pages;
let ada;
let bob;

before(async () => {
  pages = await servePages();
  // Not on loopback alone: an invitation is needed, and the pages' origin has to be named.
  server = await startServer({ tcp: "0.0.0.0:0", origin: pages.origin });
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca }), startBrowser({ ca: server.ca })]);
});

after(async () => {
  await Promise.all([ada?.close(), bob?.close()]);
  pages?.close();
  await server?.stop();
});

const pictures = (page) => until(page, "pictures arrive", ({ state, frames }) => state === "connected" && frames >= 10);

async function open(browser, token = server.ready.invite) {
  const page = await browser.page();
  await page.goto(`${pages.address("readme", { server: server.origin })}#t=${token}`);
  return page;
}

test("the README's call page makes a call from another origin, and is what the README says", async () => {
  const script = /<script type="module">\n([^]*?)<\/script>/.exec(readmePage())[1];
  assert.ok(readmePage().trim().split("\n").length <= 32, "some thirty lines");
  assert.deepEqual([...script.matchAll(/^ *import .* from "(.*)"/gm)].map((match) => match[1]), ["https://relais.example/relais.js"]);
  const [one, two] = [await open(ada), await open(bob)];
  await Promise.all([pictures(one), pictures(two)]);
  for (const page of [one, two]) {
    await page.locator("#state", { hasText: /Guest: connected, direct/ }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("video").length === 2 && [...document.querySelectorAll("video")].every((one) => one.videoWidth > 0));
  }
  await two.click("#leave");
  await one.waitForFunction(() => document.querySelectorAll("video").length === 1);
  await one.close();
  await two.close();
  assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
});

test("the README's call page says why it is not let in", async () => {
  const page = await open(ada, "nonsense");
  await page.locator("#state", { hasText: "the invitation is not one of this server" }).waitFor();
  await page.close();
});

test("a page without camera only receives", async () => {
  const sender = await open(ada);
  const page = await bob.page();
  await page.goto(pages.address("plain"));
  await page.evaluate(
    async ([address, token]) => {
      const { join } = await import(address);
      window.room = join("blue-fox", { token, name: "Eve" });
    },
    [`${server.origin}/relais.js`, server.ready.invite],
  );
  await pictures(page);
  await sender.locator("#state", { hasText: "Eve: connected" }).waitFor();
  assert.equal(await page.evaluate(() => window.room.peers[0].stream.getTracks().length), 2);
  await page.evaluate(() => window.room.leave());
  await page.close();
  await sender.close();
  assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
});
