// Runs the calls of the laboratory; started by `tests/lab/run`, which says how to use it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { EVENTS, callAcross, told } from './call.mjs';
import { KINDS, createPublicSegment, endClients } from './network.mjs';
import { PAGES, publishPages } from './page.mjs';
import { MATRIX, MEASURED, table } from './results.mjs';
import { startServer } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
/** Frames are counted for so long; results are as the issue of the laboratory wants them. */
const SECONDS = { check: 3, results: 10 };
/** What a direct call may stand still in a restart: a machine that does other things stops it for a while by itself. */
const STANDSTILL_MS = { check: 10_000, results: 2_000 };

/** A call that takes longer hangs, and the next one must have its turn: the slowest take half of it. */
const LIMIT_MS = 180_000;

const { binary, results, calls } = parseArguments(process.argv.slice(2));
const directory = mkdtempSync(join(tmpdir(), 'relais-lab-'));
const outcomes = [];
let server;
try {
  createPublicSegment();
  server = await startServer(binary, directory);
  publishPages(join(directory, 'pages'), server.ready.invite);
  for (const call of calls) {
    outcomes.push(await run(call));
    // It takes twenty minutes: whoever stops it keeps what there is.
    if (results) writeFileSync(results, table(outcomes, binary));
  }
} finally {
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
}
const failed = outcomes.filter(({ error }) => error).length;
console.log(`${outcomes.length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

async function run(call) {
  const started = performance.now();
  const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
  // After a restart of the server or a change of the network other things are of interest.
  const count = results && !call.event ? SECONDS.results : SECONDS.check;
  const late = setTimeout(endClients, LIMIT_MS);
  try {
    await server.ensure();
    const again = results && MEASURED.includes(call.name) ? 4 : 0;
    const standstill = results ? STANDSTILL_MS.results : STANDSTILL_MS.check;
    const measured = await callAcross(server, directory, call, { seconds: count, standstill, again });
    console.log(`ok    ${call.name}: ${told(call, measured, count)} (${seconds()} s, load ${measured.load})`);
    return { call, measured };
  } catch (error) {
    console.log(`FAIL  ${call.name} (${seconds()} s): ${error.stack ?? error}`);
    return { call, error };
  } finally {
    clearTimeout(late);
  }
}

function parseArguments(words) {
  let file = join(here, '../../target/debug/relais');
  let target = null;
  const chosen = [];
  while (words.length > 0) {
    const word = words.shift();
    if (word === '--binary') file = words.shift();
    else if (word === '--results') target = resolve(words.shift());
    else chosen.push(parseCall(word));
  }
  if (chosen.length === 0) chosen.push(...(target ? MATRIX : ['symmetric/symmetric']).map(parseCall));
  return { binary: resolve(file), results: target, calls: chosen };
}

/** `CALLER/CALLEE`, `PAGE:CALLER/CALLEE`, `EVENT:CALLER/CALLEE`; `,turns` after it. */
function parseCall(word) {
  const [route, ...options] = word.split(',');
  const [pair, first = 'call'] = route.split(':').reverse();
  const kinds = pair.split('/');
  if (kinds.length !== 2 || !kinds.every((kind) => Object.hasOwn(KINDS, kind))) {
    throw new Error(`${pair} is not CALLER/CALLEE of ${Object.keys(KINDS).join(', ')}`);
  }
  const event = Object.hasOwn(EVENTS, first) ? first : null;
  if (!event && !PAGES.includes(first)) throw new Error(`${first} is not one of ${[...PAGES, ...Object.keys(EVENTS)].join(', ')}`);
  if (['moved', 'roamed'].includes(event) && KINDS[kinds[0]].address !== 'private') throw new Error(`${kinds[0]} does not translate`);
  if (options.some((option) => option !== 'turns')) throw new Error(`${options} is not turns`);
  return { name: word, page: event ? 'call' : first, kinds, event, turnsOnly: options.includes('turns') };
}
