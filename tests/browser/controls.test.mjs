// The buttons of a call do what they say, and the other side sees it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { startBrowser } from "./support/browser.mjs";
import { hangUp, join, look, newRoom, picturesArrive, picturesArriveOnBoth } from "./support/call.mjs";
import { startServer } from "./support/server.mjs";

let server;
let ada;
let bob;
let mine;
let theirs;

before(async () => {
  server = await startServer();
  [ada, bob] = await Promise.all([startBrowser({ ca: server.ca }), startBrowser({ ca: server.ca })]);
  [mine, theirs] = [await ada.page(), await bob.page()];
  const room = newRoom();
  await join(mine, server.link(room), "Ada");
  await join(theirs, server.link(room), "Bob");
  await picturesArriveOnBoth(mine, theirs);
});

after(async () => {
  for (const page of [mine, theirs]) if (page) await hangUp(page);
  await Promise.all([ada?.close(), bob?.close()]);
  await server?.stop();
});

/** The ids of what is being sent, and the version of the session description: it grows with each negotiation. */
function sent(page) {
  return page.evaluate(() => {
    const connection = window.keptConnections.at(-1);
    const tracks = connection.getSenders().map((sender) => sender.track);
    return {
      version: /^o=\S+ \S+ (\d+)/m.exec(connection.localDescription.sdp)[1],
      camera: tracks.find((track) => track?.kind === "video")?.getSettings().deviceId,
      microphone: tracks.find((track) => track?.kind === "audio")?.getSettings().deviceId,
    };
  });
}

/** What is sent, once its camera is as wanted: the other page hears of a change before the sender has swapped its track. */
async function sending(page, what, isWanted) {
  const end = performance.now() + 10_000;
  for (;;) {
    const seen = await sent(page);
    if (isWanted(seen.camera)) return seen;
    if (performance.now() > end) assert.fail(`${what}; sent is ${JSON.stringify(seen)}`);
    await page.waitForTimeout(50);
  }
}

/** Sound arrives at `page`, or none does. */
async function sound(page, wanted) {
  const heard = () => look(page).then(({ audioEnergy }) => audioEnergy);
  // The fake microphone beeps once a second.
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const before = await heard();
    await page.waitForTimeout(1_500);
    if ((await heard()) - before > 1e-3 === wanted) return;
  }
  assert.fail(wanted ? "no sound arrives" : "sound still arrives");
}

test("mute and unmute", async () => {
  await sound(theirs, true);
  const button = mine.locator("#stage [data-turn=audio]");
  await button.click();
  assert.equal(await button.getAttribute("aria-pressed"), "false");
  await theirs.locator(".tile .muted-mark").waitFor();
  await sound(theirs, false);
  await button.click();
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  await theirs.locator(".tile .muted-mark").waitFor({ state: "hidden" });
  await sound(theirs, true);
});

test("camera off and on", async () => {
  const button = mine.locator("#stage [data-turn=video]");
  await button.click();
  await theirs.locator(".tile.dark").waitFor();
  await sending(mine, "no camera is open", (camera) => camera === undefined);
  await button.click();
  await theirs.locator(".tile:not(.dark)").waitFor();
  await picturesArrive(theirs);
});

test("the screen is shared, and the camera comes back", async () => {
  const { camera, version } = await sent(mine);
  const button = mine.locator("#screen");
  await button.click();
  await theirs.locator(".tile.screen").waitFor();
  await mine.locator("#screen[aria-pressed=true]").waitFor();
  await sending(mine, "the screen takes the camera's place", (now) => now !== camera);
  await picturesArrive(theirs);
  await button.click();
  await theirs.locator(".tile:not(.screen)").waitFor();
  const back = await sending(mine, "the camera is back", (now) => now === camera);
  assert.equal(back.version, version, "with no new negotiation");
  await picturesArrive(theirs);
});

test("camera and microphone are changed in mid-call", async () => {
  const before = await sent(mine);
  await mine.click("#open-settings");
  const pick = async (select, current) => {
    const others = await mine.locator(`${select} option`).evaluateAll((options) => options.map((one) => one.value));
    const other = others.at(-1);
    assert.notEqual(other, current, "there is another device");
    await mine.selectOption(select, other);
    return other;
  };
  const camera = await pick("#camera", before.camera);
  const microphone = await pick("#microphone", before.microphone);
  await mine.waitForFunction(
    (ids) => {
      const tracks = window.keptConnections.at(-1).getSenders().map((sender) => sender.track?.getSettings().deviceId);
      return ids.every((id) => tracks.includes(id));
    },
    [camera, microphone],
  );
  assert.equal((await sent(mine)).version, before.version, "with no new negotiation");
  await mine.click("#close-settings");
  await picturesArrive(theirs);
  await sound(theirs, true);
});

test("the page can be used with the keyboard alone", async () => {
  await mine.locator("#open-settings").focus();
  await mine.keyboard.press("Enter");
  await mine.locator("#settings[open]").waitFor();
  await mine.keyboard.press("Escape");
  await mine.locator("#settings:not([open])").waitFor({ state: "attached" });
  const names = await mine.locator("#stage .controls button").evaluateAll((all) => all.map((one) => one.getAttribute("aria-label")));
  assert.deepEqual(names, ["Microphone", "Camera", "Share the screen", "Copy the link", "Settings", "Hang up"]);
  await mine.locator("#hang-up").focus();
  await mine.keyboard.press("Space");
  await mine.locator("#ended:not([hidden])").waitFor();
  await mine.keyboard.press("Tab");
  await mine.keyboard.press("Enter");
  await picturesArriveOnBoth(mine, theirs);
  assert.deepEqual([...ada.messages, ...bob.messages], [], "nothing in the consoles");
});
