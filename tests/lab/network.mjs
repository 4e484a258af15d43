// The network: a public segment with the server on it, and two clients, each behind a router of a chosen kind.
//
//                 wan (bridge)  203.0.113.0/24, 2001:db8:1::/64
//          ┌────────────┼────────────┐
//         srv        router-a     router-b      .10 and .11; .20; .30
//                       │            │
//                       a            b          192.168.1.2 and 192.168.2.2 behind NAT
//
// `tests/lab/run` starts the laboratory in mount, network and process namespaces of its own, so every namespace named
// here is invisible outside and gone with the last process, however the run ends.

import { execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const DELAY = fileURLToPath(new URL('delay.py', import.meta.url));

export const SERVER = { v4: '203.0.113.10', v4second: '203.0.113.11', v6: '2001:db8:1::10' };

/** The documentation prefixes the laboratory is made of: no server permits them as TURN peers unasked. */
export const PREFIXES = ['203.0.113.0/24', '198.51.100.0/24', '2001:db8::/32'];

// Unsolicited packets are dropped in the router's input hook as well: an accepted one would leave a conntrack entry on
// the tuple that the client's own next packet needs, and hole punching would fail.
const unsolicited = ['iifname "wan" ct state { established, related } accept', 'iifname "wan" drop'];

/** The kinds of router: their rules, and what the probe must measure behind them. */
export const KINDS = {
  none: { address: 'public', udp: 'same-port', tcp: [443, 3478] },
  cone: { address: 'private', masquerade: 'masquerade', input: unsolicited, udp: 'same-port', tcp: [443, 3478] },
  symmetric: {
    address: 'private',
    masquerade: 'masquerade random,fully-random',
    input: unsolicited,
    udp: 'port-per-destination',
    tcp: [443, 3478],
  },
  'udp-blocked': {
    address: 'private',
    masquerade: 'masquerade',
    input: unsolicited,
    forward: ['meta l4proto udp drop'],
    udp: 'none',
    tcp: [443, 3478],
  },
  'only-443': {
    address: 'private',
    masquerade: 'masquerade',
    input: unsolicited,
    forward: ['iifname "lan" tcp dport 443 accept', 'iifname "lan" drop'],
    udp: 'none',
    tcp: [443],
  },
  // A router of kind cone on a bad mobile link: 40 ms each way, 5 % of the packets lost each way.
  lossy: {
    address: 'private',
    masquerade: 'masquerade',
    input: unsolicited,
    udp: 'same-port',
    tcp: [443, 3478],
    link: { delay: 40, loss: 5 },
  },
  v6only: { address: 'ipv6', input: unsolicited, udp: 'same-port', tcp: [443, 3478] },
};

const SIDES = {
  a: { router: '203.0.113.20', moved: '203.0.113.21', router6: '2001:db8:1::20', lan: '192.168.1', public: '198.51.100.0', first: 1 },
  b: { router: '203.0.113.30', moved: '203.0.113.31', router6: '2001:db8:1::30', lan: '192.168.2', public: '198.51.100.128', first: 129 },
};

/** Runs `command` in the namespace `ns` and returns what it printed. */
export function exec(ns, command, input) {
  return execFileSync('ip', ['netns', 'exec', ns, ...command], { input, encoding: 'utf8' });
}

function ip(ns, text) {
  execFileSync('ip', ['-n', ns, ...text.split(' ')], { encoding: 'utf8' });
}

function sysctl(ns, name, value) {
  exec(ns, ['sh', '-c', `echo ${value} > /proc/sys/net/${name}`]);
}

function addNamespace(ns) {
  execFileSync('ip', ['netns', 'add', ns]);
  // Duplicate address detection would leave the first second without IPv6.
  sysctl(ns, 'ipv6/conf/all/accept_dad', 0);
  sysctl(ns, 'ipv6/conf/default/accept_dad', 0);
  ip(ns, 'link set lo up');
}

/** What makes bad links, to be ended with the clients. */
const boxes = [];

/**
 * Puts an interface `name` with `addresses` into `ns`, plugged into the public segment. A bad `link` is a box of its own
 * between the two, as the kernel's own delays (netem) are not in every kernel.
 */
function plugIn(ns, name, addresses, link = null) {
  const [far, end] = link ? [`box-${ns}`, 'wan'] : [ns, name];
  if (link) {
    addNamespace(far);
    sysctl(far, 'ipv6/conf/all/disable_ipv6', 1);
    ip(far, `link add lan type veth peer name ${name} netns ${ns}`);
    ip(far, 'link set lan up');
  }
  ip('wan', `link add to-${ns} type veth peer name ${end} netns ${far}`);
  ip('wan', `link set to-${ns} master br0 up`);
  if (link) {
    ip(far, 'link set wan up');
    const box = ['netns', 'exec', far, '/usr/bin/python3', DELAY, 'lan', 'wan', String(link.delay), String(link.loss)];
    boxes.push(spawn('ip', box, { stdio: ['ignore', 'inherit', 'inherit'] }));
  }
  ip(ns, `link set ${name} up`);
  for (const address of addresses) ip(ns, `address add ${address} dev ${name}`);
}

/** The public segment and the server's namespace `srv`. */
export function createPublicSegment() {
  addNamespace('wan');
  ip('wan', 'link add br0 type bridge');
  // Frames between two hosts of the segment must not go through packet filter rules.
  for (const family of ['iptables', 'ip6tables']) sysctl('wan', `bridge/bridge-nf-call-${family}`, 0);
  ip('wan', 'link set br0 up');
  addNamespace('srv');
  plugIn('srv', 'eth0', [`${SERVER.v4}/24`, `${SERVER.v4second}/24`, `${SERVER.v6}/64`]);
  // As on a real host there is a way out, on which packets to private addresses vanish. (Without it the kernel answers
  // "network is unreachable", and coturn ends an allocation for that.)
  ip('wan', 'address add 203.0.113.1/24 dev br0');
  ip('srv', 'route add default via 203.0.113.1');
}

/** The client's namespace `side` ('a' or 'b') behind a router of `kind`. */
export function createSide(side, kind) {
  const { address, link, ...rules } = KINDS[kind];
  const plan = SIDES[side];
  const router = `router-${side}`;
  addNamespace(router);
  addNamespace(side);
  sysctl(router, 'ipv4/ip_forward', 1);
  sysctl(router, 'ipv6/conf/all/forwarding', 1);
  plugIn(router, 'wan', [`${plan.router}/24`, `${plan.router6}/64`], link);
  ip(router, `link add lan type veth peer name eth0 netns ${side}`);
  ip(router, 'link set lan up');
  ip(side, 'link set eth0 up');
  const lan = lanOf(side, address);
  ip(router, `address add ${lan.router}/${lan.length} dev lan`);
  ip(side, `address add ${lan.client}/${lan.length} dev eth0`);
  ip(side, `route add default via ${lan.router}`);
  exec(router, ['nft', '-f', '-'], ruleset(rules));
  return { ns: side, kind, address: lan.client };
}

/** Routes between routed (not translated) client networks, the server and the other side's router. */
export function connectRouted(sides) {
  for (const side of sides) {
    const { address } = KINDS[side.kind];
    if (address === 'private') continue;
    const lan = lanOf(side.ns, address);
    const via = address === 'ipv6' ? SIDES[side.ns].router6 : SIDES[side.ns].router;
    const others = sides.filter((other) => other !== side).map((other) => `router-${other.ns}`);
    for (const ns of ['srv', ...others]) ip(ns, `route replace ${lan.network}/${lan.length} via ${via}`);
  }
}

/** The router of `side`, which translates, gets another public address: every mapping it had is gone, nobody tells the client. */
export function moveRouter({ ns }) {
  const { router, moved } = SIDES[ns];
  changeAddress(`router-${ns}`, 'wan', `${router}/24`, `${moved}/24`);
}

/** The client of `side` gets another address of its own, as when it joins another network. */
export function moveClient({ ns, address }) {
  const { lan } = SIDES[ns];
  changeAddress(ns, 'eth0', `${address}/24`, `${lan}.3/24`);
  ip(ns, `route add default via ${lan}.1`);
}

/** The first is taken away before the second comes: else it would take the second, of the same network, with it. */
function changeAddress(ns, name, from, to) {
  ip(ns, `address del ${from} dev ${name}`);
  ip(ns, `address add ${to} dev ${name}`);
}

/** Ends whatever still runs on the clients, as a browser that no longer answers. */
export function endClients() {
  const named = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).split('\n').map((line) => line.split(' ')[0]);
  for (const ns of Object.keys(SIDES).filter((side) => named.includes(side))) {
    const pids = execFileSync('ip', ['netns', 'pids', ns], { encoding: 'utf8' }).split('\n').filter(Boolean);
    for (const pid of pids) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch (error) {
        if (error.code !== 'ESRCH') throw error;
      }
    }
  }
}

/** Takes both clients and their routers down again, as far as they came. */
export function removeSides() {
  for (const box of boxes.splice(0)) box.kill();
  const lines = (...command) => execFileSync('ip', command, { encoding: 'utf8' }).split('\n').filter(Boolean);
  const namespaces = lines('netns', 'list').map((line) => line.split(' ')[0]);
  for (const ns of namespaces.filter((name) => name !== 'wan' && name !== 'srv')) {
    // The kernel takes a namespace's interfaces down later than its name: their names must be free for the next call.
    for (const { ifname } of JSON.parse(lines('-j', '-n', ns, 'link', 'show', 'type', 'veth').join('') || '[]')) {
      if (ifname) ip(ns, `link del ${ifname}`);
    }
    execFileSync('ip', ['netns', 'del', ns]);
  }
  // The next routers have the same addresses and other interfaces.
  ip('srv', 'neigh flush dev eth0');
}

function lanOf(side, address) {
  const plan = SIDES[side];
  switch (address) {
    case 'private':
      return { network: `${plan.lan}.0`, length: 24, router: `${plan.lan}.1`, client: `${plan.lan}.2` };
    case 'public': {
      const host = (n) => `198.51.100.${plan.first + n}`;
      return { network: plan.public, length: 25, router: host(0), client: host(1) };
    }
    case 'ipv6':
      return {
        network: `2001:db8:${side}::`,
        length: 64,
        router: `2001:db8:${side}::1`,
        client: `2001:db8:${side}::2`,
      };
    default:
      throw new Error(`unknown kind of address ${address}`);
  }
}

function ruleset({ masquerade, input = [], forward = [] }) {
  const neighbours = input.length ? ['icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept'] : [];
  const chain = (hook, rules) => ['chain ' + hook + ' {', `type filter hook ${hook} priority 0`, ...rules, '}'];
  const filter = ['table inet filter {', ...chain('input', [...neighbours, ...input]), ...chain('forward', [...forward, ...input]), '}'];
  const translate = ['table ip nat {', 'chain post {', 'type nat hook postrouting priority 100', `oifname "wan" ${masquerade}`, '}', '}'];
  return [...(masquerade ? translate : []), ...filter, ''].join('\n');
}
