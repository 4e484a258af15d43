// What a person does on the call page, and what its connections say.

import assert from "node:assert/strict";

const DEADLINE = 90_000;

/** Opens a link and joins from the preview. */
export async function join(page, link, name = "") {
  // A link that differs in its fragment only would not load the page anew.
  await page.goto("about:blank");
  await page.goto(link);
  await enter(page, name);
}

export async function enter(page, name = "") {
  const button = page.locator("#enter .primary");
  await button.waitFor();
  await page.waitForFunction(() => document.querySelector("#preview").srcObject !== null || !document.querySelector(".device-problem").hidden);
  await page.fill("#name", name);
  await button.click();
}

/** Waits until the page says, in words, that the call is in this state (the key after `state.`). */
export async function says(page, state, timeout = DEADLINE) {
  await page.waitForFunction((key) => document.querySelector("#status").dataset.text === key, `state.${state}`, { timeout, polling: 100 });
}

/** Asks the newest live connection of a page. Runs in the page. */
async function inspect() {
  const live = window.keptConnections.filter((one) => one.connectionState !== "closed");
  const connection = live.at(-1);
  if (!connection) return { connections: window.keptConnections.length, state: "none", frames: 0 };
  const stats = await connection.getStats();
  const all = [...stats.values()];
  const video = all.filter((one) => one.type === "inbound-rtp" && one.kind === "video");
  const audio = all.filter((one) => one.type === "inbound-rtp" && one.kind === "audio");
  const sum = (list, field) => list.reduce((total, one) => total + (one[field] ?? 0), 0);
  const transport = all.find((one) => one.type === "transport");
  const pair = stats.get(transport?.selectedCandidatePairId);
  const local = pair && stats.get(pair.localCandidateId);
  const remote = pair && stats.get(pair.remoteCandidateId);
  return {
    connections: window.keptConnections.length,
    live: live.length,
    state: connection.connectionState,
    frames: sum(video, "framesDecoded"),
    audioEnergy: sum(audio, "totalAudioEnergy"),
    sections: connection.getTransceivers().length,
    local: local && { type: local.candidateType, relay: local.relayProtocol ?? null, address: local.address },
    remote: remote && { type: remote.candidateType },
  };
}

export function look(page) {
  return page.evaluate(inspect);
}

/** Waits until `check(look)` holds; says what was last seen if it does not. */
export async function until(page, what, check, timeout = DEADLINE) {
  const end = performance.now() + timeout;
  let seen;
  do {
    seen = await look(page);
    if (check(seen)) return seen;
    await page.waitForTimeout(100);
  } while (performance.now() < end);
  const status = await page.locator("#status").textContent().catch(() => "");
  assert.fail(`${what}: not within ${timeout} ms; last seen ${JSON.stringify(seen)}, the page says “${status}”`);
}

/** Pictures arrive now: ten more frames than a moment ago. */
export async function picturesArrive(page, timeout = DEADLINE) {
  const { frames } = await look(page);
  return until(page, "pictures arrive", (seen) => seen.state === "connected" && seen.frames >= frames + 10, timeout);
}

export async function picturesArriveOnBoth(...pages) {
  return Promise.all(pages.map((page) => picturesArrive(page)));
}

/** Milliseconds from the click on “join” to the first picture of the other side. */
export function clickToPicture(page) {
  return page.evaluate(() => {
    const at = (name) => performance.getEntriesByName(name).at(-1).startTime;
    return Math.round(at("relais:first-frame") - at("relais:join"));
  });
}

/** Hangs up where there is a call. */
export async function hangUp(page) {
  if (await page.locator("#hang-up").isVisible()) await page.click("#hang-up");
}

/** A browser that wants a tap before it lets sound out. Runs in the page. */
export function needsATap() {
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = () => {
    HTMLMediaElement.prototype.play = play;
    return Promise.reject(new DOMException("not yet", "NotAllowedError"));
  };
}

let rooms = 0;

/** A room that no other test uses. */
export function newRoom() {
  rooms += 1;
  return `test-room-${process.pid}-${rooms}`;
}
