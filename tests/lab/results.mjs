// The table that `tests/lab/run --results FILE` writes.

import { execFileSync } from 'node:child_process';
import { cpus, release } from 'node:os';
import { basename, dirname } from 'node:path';

import { KINDS } from './network.mjs';
import { routeOf } from './kinds.mjs';

const SIDES = ['none', 'cone', 'symmetric', 'udp-blocked', 'only-443'];
const BAD = SIDES.map((kind) => `lossy/${kind}`);
const RESTARTS = ['cone/cone', 'symmetric/symmetric', 'only-443/only-443'].map((pair) => `restart:${pair}`);
const MOVES = ['moved:cone/cone', 'moved:symmetric/symmetric', 'roamed:cone/cone', 'roamed:only-443/only-443'];

/** Calls of which the time to the first picture is the median of five. */
export const MEASURED = [
  'symmetric/symmetric',
  'symmetric/cone',
  'udp-blocked/symmetric',
  'only-443/only-443',
  'only-443/only-443,turns',
];

/** Every call, in the order of the table. */
const TABLE = [
  ...SIDES.flatMap((caller) => SIDES.map((callee) => `${caller}/${callee}`)),
  'only-443/only-443,turns',
  ...BAD,
  'lossy/lossy',
  'v6only/v6only',
  'v6only/cone',
  'none/v6only',
  ...RESTARTS,
  ...MOVES,
];

/** The same in the order in which they are made: first what has a goal. */
export const MATRIX = [...new Set([...MEASURED, ...RESTARTS, ...MOVES, ...TABLE])];

const GOALS = { udp: 1000, tcp: 3000 };

/** The whole text: what was measured where, and what of it met its goal. */
export function table(outcomes, binary) {
  const version = execFileSync('chromium', ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  const loads = outcomes.flatMap(({ measured }) => (measured ? [Number(measured.load)] : []));
  const place = ({ call }) => TABLE.indexOf(call.name);
  const ordered = [...outcomes].sort((one, other) => place(one) - place(other));
  const calls = ordered.filter(({ call }) => !call.event);
  return `# Results of the NAT laboratory

Written by \`tests/lab/run --results tests/lab/RESULTS.md\` on ${new Date().toISOString().slice(0, 10)}: ${cpus().length} cores, Linux ${release().split('-')[0]},
${version}, the ${basename(dirname(binary))} build; load of the machine while it ran: ${Math.min(...loads)} to ${Math.max(...loads)} (each row has its own).
Two browsers, one server and both routers share the cores. ${summary(outcomes)}

A waits in the room, B joins. *Picture*: milliseconds from B's click on “join” until A / B show the other one's first frame.
*Way*: the selected pair of A, then of B, as \`own candidate/protocol>other's candidate\` from getStats; for a relayed
candidate of one's own the protocol is that between browser and relay. *Restart*: milliseconds until checks have succeeded
on both sides after an ICE restart; a star means that Chromium went on with the old pair, which had the higher priority,
without checks of its own on the new one (\`call.mjs\` tells more). \`lossy\` is \`cone\` behind a link with 40 ms delay and 5 % loss each way.

| A / B | way of A, of B | picture | frames in 10 s | restart | way after it | frames in 10 s | load |
|---|---|---|---|---|---|---|---|
${calls.map(row).join('\n')}

## Median of five, from click to first picture of the later side

| A / B | runs | median | goal | |
|---|---|---|---|---|
${calls.filter(({ measured }) => measured?.pictures.length > 1).map(median).join('\n')}

## The server is restarted in mid-call

The longest time without a new frame, in milliseconds, from the end of the server on until it was back for 8 s. A direct call
must not notice; a relayed one must be back within 5,000 ms.

| A / B | way of A, of B | A | B | load |
|---|---|---|---|---|
${ordered.filter(({ call }) => call.event === 'restart').map(restarted).join('\n')}

## The network of A changes in mid-call

*Moved*: A's router gets another public address, and its mappings are gone. *Roamed*: A itself gets another address. Nobody
presses anything. The longest time without a new frame, in milliseconds; Chromium needs 5 to 7 s of it to find the old way
broken.

| | A / B | way of A, of B | A | B | way after it | load |
|---|---|---|---|---|---|---|
${ordered.filter(({ call }) => ['moved', 'roamed'].includes(call.event)).map(moved).join('\n')}
`;
}

function summary(outcomes) {
  const failed = outcomes.filter(({ error }) => error).map(({ call }) => call.name);
  const told = failed.length === 0 ? 'All passed' : `Failed: ${failed.join(', ')}`;
  return `${outcomes.length} calls were made. ${told}.`;
}

function row({ call, measured, error }) {
  if (error) return `| ${call.name} | ${why(error)} | | | | | | |`;
  const { states, pictures, frames, kept, statesAfter, framesAfter, load } = measured;
  const time = `${measured.restarted}${kept ? ' \\*' : ''}`;
  return `| ${[call.name, ways(states), pictures[0].join(' / '), frames.join(' / '), time, ways(statesAfter), framesAfter.join(' / '), load].join(' | ')} |`;
}

/** In one cell: what was seen by then is in what the run printed. */
function why(error) {
  return `failed: ${error.message.split('\n')[0].split(': [')[0].replaceAll('|', '/').slice(0, 120)}`;
}

function ways(states) {
  return states.map(routeOf).join(', ');
}

function median({ call, measured }) {
  const times = measured.pictures.map((both) => Math.max(...both));
  const middle = [...times].sort((one, other) => one - other)[Math.floor(times.length / 2)];
  const only443 = call.kinds.some((kind) => KINDS[kind].tcp.join() === '443');
  const goal = only443 ? GOALS.tcp : GOALS.udp;
  return `| ${call.name} | ${times.join(', ')} | ${middle} | ${goal} | ${middle <= goal ? 'met' : 'missed'} |`;
}

function restarted({ call, measured, error }) {
  if (error) return `| ${call.name} | ${why(error)} | | | |`;
  return `| ${call.name.replace('restart:', '')} | ${ways(measured.states)} | ${measured.gaps.join(' | ')} | ${measured.load} |`;
}

function moved({ call, measured, error }) {
  const name = call.name.split(':').join(' | ');
  if (error) return `| ${name} | ${why(error)} | | | | |`;
  return `| ${name} | ${ways(measured.states)} | ${measured.gaps.join(' | ')} | ${ways(measured.statesAfter)} | ${measured.load} |`;
}
