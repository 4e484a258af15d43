// Runs the calls of the laboratory; started by `tests/lab/run`, which says how to use it.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { callState, startBrowser } from './browser.mjs';
import { KINDS, SERVER, connectRouted, createPublicSegment, createSide, removeSides } from './network.mjs';
import { PAGES, openPages, publishPages } from './page.mjs';
import { startServer, UDP, UDP6 } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const CALL_DEADLINE_MS = 60_000;
const POLL_MS = 100;
/** Frames that must still come after the first ones: a picture that freezes is no call. */
const MORE_FRAMES = 30;
/** Behind these, the peers' own addresses are no use to one another: the call must go through the relay. */
const NEEDS_RELAY = new Set(['symmetric', 'udp-blocked', 'only-443']);

const { binary, pairs } = parseArguments(process.argv.slice(2));
const directory = mkdtempSync(join(tmpdir(), 'relais-lab-'));
let failed = 0;
let server;
try {
  createPublicSegment();
  server = await startServer(binary, directory);
  publishPages(join(directory, 'pages'), server.ready.invite);
  for (const [index, call] of pairs.entries()) {
    const started = performance.now();
    try {
      const outcome = await callAcross(call, index);
      console.log(`ok    ${call.name}: ${outcome} (${seconds(started)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${call.name} (${seconds(started)} s): ${error.stack ?? error}`);
    }
  }
} finally {
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
}
console.log(`${pairs.length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

function parseArguments(words) {
  let file = join(here, '../../target/debug/relais');
  const chosen = [];
  while (words.length > 0) {
    const word = words.shift();
    if (word === '--binary') file = words.shift();
    else chosen.push(parseCall(word));
  }
  if (chosen.length === 0) chosen.push(parseCall('symmetric/symmetric'));
  return { binary: resolve(file), pairs: chosen };
}

/** `CALLER/CALLEE`, or `PAGE:CALLER/CALLEE`. */
function parseCall(word) {
  const [pair, page = 'call'] = word.split(':').reverse();
  const kinds = pair.split('/');
  if (kinds.length !== 2 || !kinds.every((kind) => Object.hasOwn(KINDS, kind))) {
    throw new Error(`${pair} is not CALLER/CALLEE of ${Object.keys(KINDS).join(', ')}`);
  }
  if (!PAGES.includes(page)) throw new Error(`${page} is not one of ${PAGES.join(', ')}`);
  return { name: word, page, kinds };
}

/** One call between two clients behind routers of the given kinds. Returns what to print of it. */
async function callAcross({ page: kind, kinds: [caller, callee] }, index) {
  const sides = [];
  const browsers = [];
  const logged = server.log.length;
  try {
    for (const [ns, router] of [['a', caller], ['b', callee]]) sides.push(createSide(ns, router));
    connectRouted(sides);
    const probed = await Promise.all(sides.map(assertKind));
    for (const { ns } of sides) browsers.push(await startBrowser(ns, join(directory, `call-${index}`), server.ready.ca));
    const origins = sides.map((side) => `https://${side.kind === 'v6only' ? `[${SERVER.v6}]` : SERVER.v4}`);
    const pages = browsers.map(({ page }) => page);
    await openPages(kind, pages, origins, `lab-${index}`, server.ready.invite);
    // A streamer sees nobody.
    const { states: outcome, picture } = await settledCall(browsers, kind === 'live' ? [false, true] : [true, true]);
    assertRoutes(sides, outcome);
    const route = ({ local, remote }) => `${local.type}/${local.protocol}>${remote.type}`;
    const frames = outcome.map((state) => state.frames).join(' and ');
    return `${probed.join(' | ')}; route ${outcome.map(route).join(', ')}; picture after ${picture} ms, ${frames} frames`;
  } catch (error) {
    const said = browsers.flatMap(({ messages }, side) => messages.slice(-20).map((text) => `  ${'ab'[side]} ${text}`));
    const log = server.log.slice(logged).map((line) => `  server ${line}`);
    error.stack = [error.stack, ...said, ...log].join('\n');
    throw error;
  } finally {
    for (const { close } of browsers) await close();
    removeSides();
  }
}

/** Measures, from inside the client's namespace, that the router is what it is said to be. */
async function assertKind({ ns, kind, address }) {
  const expected = KINDS[kind];
  const v6 = expected.address === 'ipv6';
  const host = v6 ? `[${SERVER.v6}]` : SERVER.v4;
  const [udp, tcp] = await Promise.all([
    probe(ns, 'udp', v6 ? UDP6 : UDP),
    probe(ns, 'tcp', [443, 3478].map((port) => `${host}:${port}`)),
  ]);
  const mapped = Object.values(udp);
  const measured = mappingOf(mapped);
  if (measured !== expected.udp) {
    throw new Error(`${kind} of side ${ns}: mapping ${measured}, expected ${expected.udp}: ${JSON.stringify(mapped)}`);
  }
  if (expected.masquerade && mapped.some((entry) => entry?.address === address)) {
    throw new Error(`${kind} of side ${ns} does not translate ${address}`);
  }
  const open = Object.keys(tcp).filter((destination) => tcp[destination]).map((text) => Number(text.split(':').at(-1)));
  if (open.join() !== expected.tcp.join()) throw new Error(`${kind} of side ${ns}: TCP ${open} open, not ${expected.tcp}`);
  return `${kind}: mapped ${mapped.map((entry) => entry?.port ?? '-').join(' ')}`;
}

async function probe(ns, mode, destinations) {
  const command = ['netns', 'exec', ns, process.execPath, join(here, 'probe.mjs'), mode, ...destinations];
  return JSON.parse((await promisify(execFile)('ip', command)).stdout);
}

/** Which mapped port the destinations saw: always the same, another for each (a symmetric NAT), or no answer at all. */
function mappingOf(mapped) {
  const ports = new Set(mapped.map((entry) => entry?.port ?? null));
  if (ports.has(null)) return ports.size === 1 ? 'none' : 'partial';
  if (ports.size === 1) return 'same-port';
  return ports.size === mapped.length ? 'port-per-destination' : 'mixed';
}

/**
 * Waits until video was decoded on the sides that see something, and then still more of it. Returns both sides' state, and
 * how long after the second side joined all had a picture (to POLL_MS).
 */
async function settledCall(browsers, seeing) {
  const started = performance.now();
  const goal = seeing.map((sees) => (sees ? null : 0));
  let picture = null;
  for (;;) {
    const states = await Promise.all(browsers.map(({ page }) => callState(page)));
    for (const [side, { frames }] of states.entries()) {
      if (goal[side] === null && frames > 0) goal[side] = frames + MORE_FRAMES;
    }
    if (picture === null && !goal.includes(null)) picture = Math.round(performance.now() - started);
    const settled = states.every((state, side) => state.local && goal[side] !== null && state.frames >= goal[side]);
    if (settled) return { states, picture };
    if (performance.now() > started + CALL_DEADLINE_MS) throw new Error(`no video in time: ${JSON.stringify(states)}`);
    await delay(POLL_MS);
  }
}

/** The selected pairs must be what these two kinds of NAT allow. */
function assertRoutes(sides, states) {
  const complain = (text) => {
    throw new Error(`${text}: ${JSON.stringify(states)}`);
  };
  const kinds = sides.map(({ kind }) => kind);
  const relayed = states.map(({ local, remote }) => local.type === 'relay' || remote.type === 'relay');
  // A host that takes packets from anywhere is reached directly, even from a symmetric NAT.
  const needsRelay = kinds.some((kind) => KINDS[kind].udp === 'none') ||
    (kinds.some((kind) => NEEDS_RELAY.has(kind)) && !kinds.includes('none')) ||
    kinds.filter((kind) => kind === 'v6only').length === 1;
  for (const [side, { local }] of states.entries()) {
    if (relayed[side] !== needsRelay) complain(`side ${sides[side].ns} ${needsRelay ? 'must' : 'must not'} be relayed`);
    if (KINDS[kinds[side]].udp === 'none' && !(local.type === 'relay' && ['tcp', 'tls'].includes(local.protocol))) {
      complain(`side ${sides[side].ns} has no UDP and must reach its relay over TCP or TLS`);
    }
  }
}

function seconds(started) {
  return ((performance.now() - started) / 1000).toFixed(1);
}
