// What the routers must be, measured from behind them; and what ways a call may then take.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { KINDS, SERVER } from './network.mjs';
import { UDP, UDP6 } from './server.mjs';

const PROBE = fileURLToPath(new URL('probe.mjs', import.meta.url));
/** Behind these, the peers' own addresses are no use to one another: the call must go through the relay. */
const NEEDS_RELAY = new Set(['symmetric', 'udp-blocked', 'only-443']);

/** Measures, from inside the client's namespace, that the router is what it is said to be. Returns what to print of it. */
export async function assertKind({ ns, kind, address }) {
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
  const link = expected.link ? await assertLink(ns, expected.link) : '';
  return `${kind}: mapped ${mapped.map((entry) => entry?.port ?? '-').join(' ')}${link}`;
}

/** Both ways together have twice the delay, and lose nearly twice the share. */
async function assertLink(ns, link) {
  const [{ trip, lost }] = Object.values(await probe(ns, 'link', [UDP[0]]));
  const share = 1 - (1 - link.loss / 100) ** 2;
  const text = ` round trip ${Math.round(trip)} ms, ${Math.round(lost * 100)} % lost`;
  if (trip < 2 * link.delay || lost < share / 4 || lost > share * 3) throw new Error(`the link of side ${ns} is another:${text}`);
  return text;
}

async function probe(ns, mode, destinations) {
  const command = ['netns', 'exec', ns, process.execPath, PROBE, mode, ...destinations];
  return JSON.parse((await promisify(execFile)('ip', command)).stdout);
}

/** Which mapped port the destinations saw: always the same, another for each (a symmetric NAT), or no answer at all. */
function mappingOf(mapped) {
  const ports = new Set(mapped.map((entry) => entry?.port ?? null));
  if (ports.has(null)) return ports.size === 1 ? 'none' : 'partial';
  if (ports.size === 1) return 'same-port';
  return ports.size === mapped.length ? 'port-per-destination' : 'mixed';
}

/** Must a call between these two kinds be relayed? */
export function needsRelay(kinds) {
  // A host that takes packets from anywhere is reached directly, even from a symmetric NAT.
  return (
    kinds.some((kind) => KINDS[kind].udp === 'none') ||
    (kinds.some((kind) => NEEDS_RELAY.has(kind)) && !kinds.includes('none')) ||
    kinds.filter((kind) => kind === 'v6only').length === 1
  );
}

/** The selected pairs of both sides, as getStats gives them, must be what these two kinds of NAT allow. */
export function assertRoutes(kinds, states, { turnsOnly = false } = {}) {
  const complain = (text) => {
    throw new Error(`${text}: ${JSON.stringify(states)}`);
  };
  const relay = needsRelay(kinds);
  for (const [side, { local, remote }] of states.entries()) {
    const name = `side ${'ab'[side]}`;
    if ((local.type === 'relay' || remote.type === 'relay') !== relay) complain(`${name} ${relay ? 'must' : 'must not'} be relayed`);
    if (KINDS[kinds[side]].udp !== 'none') continue;
    const wanted = turnsOnly ? ['tls'] : ['tcp', 'tls'];
    if (local.type !== 'relay' || !wanted.includes(local.protocol)) complain(`${name} must reach its relay over ${wanted}`);
    if (kinds[side] === 'only-443' && !/^turns?:[^?]+:443\?/.test(local.url)) complain(`${name} must reach its relay on port 443`);
  }
  // Plain TCP costs less than TLS and has the higher priority: where both are offered it is taken.
  const own = states.map(({ local }) => (local.type === 'relay' ? local.protocol : null));
  if (!turnsOnly && kinds.every((kind) => kind === 'only-443') && own.join() !== 'tcp,tcp') complain('both sides must use TCP');
  const udp = kinds.every((kind) => KINDS[kind].udp !== 'none');
  if (!turnsOnly && relay && udp && !(own.includes('udp') && own.every((protocol) => [null, 'udp'].includes(protocol)))) complain('the relay must be used over UDP');
}

/** A selected pair in short: `relay/tcp>prflx`. */
export function routeOf({ local, remote }) {
  return `${local.type}/${local.protocol}>${remote.type}`;
}
