// One call between two clients behind routers of given kinds, and what is measured of it.

import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { callState, offerTurnsOnly, restartIce, startBrowser } from './browser.mjs';
import { assertKind, assertRoutes, needsRelay, routeOf } from './kinds.mjs';
import { SERVER, connectRouted, createSide, moveClient, moveRouter, removeSides } from './network.mjs';
import { clickToPicture, openPages } from './page.mjs';

const DEADLINE_MS = 60_000;
const POLL_MS = 50;
const BEST_WAY_WITHIN_MS = 15_000;
/** Frames that must come in ten seconds: a picture that freezes is no call. A loaded machine makes few of them. */
const LEAST_FRAMES = 20;
/** What a call may take at most to come back through the relay or another network on a loaded machine. */
const BACK_WITHIN_MS = 30_000;
/** Seconds for which pictures must go on in the other network. */
const LASTS_FOR = 3;

/** What may happen in mid-call. */
export const EVENTS = {
  restart: 'server restarted',
  moved: "router's address changed",
  roamed: "client's address changed",
};

let rooms = 0;

/**
 * Makes the call `{ name, page, kinds, turnsOnly, event }`, `again` times more in new rooms, and asserts its outcome. `seconds` is
 * how long frames are counted, `standstill` how many milliseconds a direct call may stand still in a restart of the server. Returns
 * what was measured.
 */
export async function callAcross(server, directory, call, { seconds, standstill, again = 0 }) {
  const sides = [];
  const browsers = [];
  const logged = server.log.length;
  try {
    for (const [ns, router] of [['a', call.kinds[0]], ['b', call.kinds[1]]]) sides.push(createSide(ns, router));
    connectRouted(sides);
    // New for each call, also after one that failed before it had a room.
    const home = mkdtempSync(join(directory, 'call-'));
    const [probed] = await Promise.all([Promise.all(sides.map(assertKind)), startBrowsers(sides, home, server.ready.ca, browsers)]);
    const pages = browsers.map(({ page }) => page);
    if (call.turnsOnly) for (const page of pages) await page.context().addInitScript(offerTurnsOnly);
    const origins = sides.map((side) => `https://${side.kind === 'v6only' ? `[${SERVER.v6}]` : SERVER.v4}`);
    const measured = { probed, pictures: [], load: load() };
    for (let time = 0; time <= again; time += 1) {
      await openPages(call.page, pages, origins, newRoom(), server.ready.invite);
      measured.states = await settled(pages, seeing(call));
      measured.pictures.push(call.page === 'call' ? await clickToPicture(pages) : []);
    }
    measured.states = await chosenWay(pages, call);
    measured.frames = await framesIn(pages, seeing(call), seconds);
    if (call.event === 'restart') measured.gaps = await restartServer(server, pages, call, standstill);
    else if (call.event) Object.assign(measured, await move(call.event, sides[0], pages, call));
    else if (call.page === 'call') Object.assign(measured, await restart(pages, call, seconds));
    return measured;
  } catch (error) {
    const said = browsers.flatMap(({ messages }, side) => messages.slice(-20).map((text) => `  ${'ab'[side]} ${text}`));
    const log = server.log.slice(logged).slice(-60).map((line) => `  server ${line}`);
    error.stack = [error.stack, ...said, ...log].join('\n');
    throw error;
  } finally {
    await Promise.all(browsers.map(({ close }) => close()));
    removeSides();
  }
}

/** Both at once. Those that started are in `browsers` even when the other one did not. */
async function startBrowsers(sides, home, ca, browsers) {
  const started = await Promise.allSettled(sides.map(({ ns }) => startBrowser(ns, home, ca)));
  browsers.push(...started.flatMap(({ value }) => value ?? []));
  for (const { reason } of started) if (reason) throw reason;
}

/** Who sees a picture: a streamer sees nobody. */
function seeing({ page }) {
  return page === 'live' ? [false, true] : [true, true];
}

function newRoom() {
  rooms += 1;
  return `lab-${rooms}`;
}

/** The load of the machine over the last minute. */
export function load() {
  return readFileSync('/proc/loadavg', 'utf8').split(' ')[0];
}

async function until(what, check, timeout = DEADLINE_MS) {
  const end = performance.now() + timeout;
  for (;;) {
    const { done, seen } = await check();
    if (done) return seen;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeout} ms: ${JSON.stringify(seen)}`);
    await delay(POLL_MS);
  }
}

/** Waits until every side that sees somebody has a picture, and both have chosen a pair. */
async function settled(pages, sees) {
  return until('a picture on both sides', async () => {
    const seen = await Promise.all(pages.map(callState));
    return { seen, done: seen.every(({ local, frames }, side) => local && (frames > 0 || !sees[side])) };
  });
}

/** The ways of both sides, once they are the best that the networks allow: a browser may begin with another. */
async function chosenWay(pages, call) {
  let complaint;
  try {
    return await until('the best way', async () => {
      const seen = await Promise.all(pages.map(callState));
      try {
        assertRoutes(call.kinds, seen, call);
        return { seen, done: true };
      } catch (error) {
        complaint = error;
        return { seen, done: false };
      }
    }, BEST_WAY_WITHIN_MS);
  } catch (error) {
    throw complaint ?? error;
  }
}

/** Counts what each side decodes in so many seconds. */
async function framesIn(pages, sees, seconds) {
  const before = await Promise.all(pages.map(callState));
  await delay(seconds * 1000);
  const after = await Promise.all(pages.map(callState));
  const frames = after.map((state, side) => state.frames - before[side].frames);
  const least = (LEAST_FRAMES * seconds) / 10;
  for (const [side, count] of frames.entries()) {
    if (sees[side] && count < least) throw new Error(`side ${'ab'[side]} decoded ${count} frames in ${seconds} s: ${JSON.stringify(after)}`);
  }
  return frames;
}

/** An ICE restart in the call: new names are agreed, checks succeed under them, and pictures go on. */
async function restart(pages, call, seconds) {
  const before = await Promise.all(pages.map(callState));
  const started = performance.now();
  await restartIce(pages[1]);
  const seen = await until('the ICE restart', async () => {
    const now = await Promise.all(pages.map(callState));
    return { seen: now, done: isRestarted(before, now) };
  });
  const restarted = Math.round(performance.now() - started);
  const kept = seen.some((state) => !succeeds(state));
  const framesAfter = await framesIn(pages, seeing(call), seconds);
  const statesAfter = await chosenWay(pages, call);
  return { restarted, kept, framesAfter, statesAfter };
}

function isRestarted(before, now) {
  const agreed = now.every(({ stable, ours, theirs, local }, side) => stable && local && ours !== before[side].ours && theirs === now[1 - side].ours);
  return agreed && now.some(succeeds) && now.every((state) => succeeds(state) || keepsBetter(state));
}

function chosenPair({ pairs }) {
  return pairs.find(({ chosen }) => chosen);
}

/** The pairs under the names that are agreed now. */
function fresh({ pairs, ours, theirs }) {
  return pairs.filter(({ fragments }) => fragments[0] === ours && fragments[1] === theirs);
}

function succeeds(state) {
  return fresh(state).some(({ succeeded }) => succeeded);
}

/**
 * Chromium (156) gives up new pairs unchecked that have a lower priority than the one it uses, which a restart leaves in use
 * for as long as it works. That is so where a router's address was learnt from a check (peer reflexive, 110) before the STUN
 * server told it (server reflexive, 100): after the restart the same way comes as the lesser. This side then sends no checks
 * under the new names, and those of the other side, which it answers, have to do. (With the ports of such an old pair blocked
 * after the restart, pictures came through the new one after 6 s.)
 */
function keepsBetter(state) {
  const chosen = chosenPair(state);
  const ways = fresh(state).filter(({ answered }) => answered > 0);
  return chosen !== undefined && ways.length > 0 && ways.every((way) => outranks(chosen, way));
}

/** RFC 8445 section 6.1.2.3: the lesser of both priorities counts first. */
function outranks({ priorities: one }, { priorities: other }) {
  return one[0] > other[0] || (one[0] === other[0] && one[1] > other[1]);
}

/**
 * The server is restarted in mid-call. Returns for how many milliseconds at most each side stood still: from the moment the
 * server ends until it has been back for some seconds and both have pictures again.
 */
async function restartServer(server, pages, { kinds }, standstill) {
  const clocks = pages.map((page) => watch(page));
  try {
    await server.stop();
    await server.again();
    const back = performance.now();
    await until('pictures after the restart', async () => {
      const seen = clocks.map(({ still, longest }) => ({ still: Math.round(still()), longest: Math.round(longest()) }));
      // Long enough that a call through the old allocations would have noticed that they are gone.
      const quiet = performance.now() - back > 8_000;
      return { seen, done: quiet && seen.every(({ still }) => still < 500) };
    });
  } finally {
    await Promise.all(clocks.map(({ end }) => end()));
  }
  const gaps = clocks.map(({ longest }) => Math.round(longest()));
  const most = needsRelay(kinds) ? BACK_WITHIN_MS : standstill;
  if (gaps.some((gap) => gap > most)) throw new Error(`stood still for ${gaps.join(' and ')} ms`);
  return gaps;
}

/**
 * The network of the first side changes in mid-call: its router's public address (`moved`) or its own (`roamed`). The pages
 * must find another way by themselves. Returns for how long each stood still, and the way after it.
 */
async function move(event, side, pages, call) {
  const clocks = pages.map((page) => watch(page));
  const before = await callState(pages[1]);
  try {
    if (event === 'moved') moveRouter(side);
    else moveClient(side);
    await until('pictures through the other network', async () => {
      const other = chosenPair(await callState(pages[1]));
      const still = clocks.map((clock) => Math.round(clock.still()));
      return { seen: { still, other }, done: other && other.id !== chosenPair(before).id && still.every((time) => time < 500) };
    });
    // It must last: a packet that was still on its way is no call.
    await framesIn(pages, seeing(call), LASTS_FOR);
  } finally {
    await Promise.all(clocks.map(({ end }) => end()));
  }
  const gaps = clocks.map(({ longest }) => Math.round(longest()));
  if (gaps.some((gap) => gap > BACK_WITHIN_MS)) throw new Error(`stood still for ${gaps.join(' and ')} ms`);
  return { gaps, statesAfter: await chosenWay(pages, call) };
}

/** Watches from now on for how long no frame came. */
function watch(page) {
  let frames = -1;
  let last = performance.now();
  let longest = 0;
  let ended = false;
  const run = (async () => {
    while (!ended) {
      const state = await callState(page);
      const now = performance.now();
      if (state.frames !== frames && state.frames > 0) {
        longest = Math.max(longest, now - last);
        last = now;
      }
      frames = state.frames;
      await delay(POLL_MS);
    }
  })();
  return {
    still: () => performance.now() - last,
    longest: () => Math.max(longest, performance.now() - last),
    async end() {
      longest = Math.max(longest, performance.now() - last);
      ended = true;
      await run;
    },
  };
}

/** One line that tells what was measured. */
export function told(call, { probed, states, statesAfter, pictures, frames, framesAfter, restarted, kept, gaps }, seconds) {
  const parts = [probed.join(' | '), `way ${states.map(routeOf).join(', ')}`];
  const times = pictures.filter((both) => both.length > 0).map((both) => both.join('/'));
  if (times.length > 0) parts.push(`picture after ${times.join(', ')} ms`);
  parts.push(`${frames.join(' and ')} frames in ${seconds} s`);
  if (restarted !== undefined) {
    const old = kept ? ', old pair kept for its priority' : '';
    parts.push(`ICE restart ${restarted} ms${old}, way ${statesAfter.map(routeOf).join(', ')}, ${framesAfter.join(' and ')} frames`);
  }
  if (gaps) parts.push(`${EVENTS[call.event]}: still for ${gaps.join(' and ')} ms${statesAfter ? `, way ${statesAfter.map(routeOf).join(', ')}` : ''}`);
  return parts.join('; ');
}
