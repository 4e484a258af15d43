// One check from beginning to end: what is tested in which order. No DOM.
//
// Events, each with the check so far in `run.seen`:
//   stage     { stage, part }: what is under way; part from 0 to 1
//   ways      { ways }: what is going to be tried
//   way       { way, result }: a way is being tried (`result` null) or has been
//   told      { transport, what, value }: figures of a call through the relay
//   change    something new in `run.seen`
//   done      the check is over; `run.stopped` tells whether somebody ended it

import { outside, passage } from "./passage.js";
import { askIce, askSignaling } from "./server.js";
import { connectionMaker, mapping, tryWays, waysIn } from "./ways.js";

/** The order of preference of a call. */
export const TRANSPORTS = ["udp", "tcp", "tls"];
/** What an ICE configuration offers to calls, in the order of its ports. */
const BEST_PORTS = [443, 3478];

export class Run extends EventTarget {
  #token;
  #make;

  /** `{ token, made }`; `made` gets each connection, for the log. */
  constructor({ token = null, made = () => {} } = {}) {
    super();
    this.#token = token;
    this.#make = (configuration) => {
      const connection = connectionMaker(configuration);
      made(connection);
      return connection;
    };
    this.stopped = false;
    this.started = Date.now();
    this.seconds = null;
    /** What was seen so far: `ice, signaling, ways, nat, outside, passages, context`. */
    this.seen = { ways: [], passages: {}, context: null };
  }

  /** No further part begins. */
  stop() {
    this.stopped = true;
  }

  async start() {
    const started = performance.now();
    try {
      await this.#server();
      if (this.seen.ice.ok) {
        await this.#ways();
        await this.#network();
        await this.#passages();
      }
    } finally {
      this.seconds = Math.round((performance.now() - started) / 100) / 10;
      this.#tell("done");
    }
  }

  async #server() {
    this.#stage("server", 0);
    const { seen } = this;
    const signaling = askSignaling().then((result) => this.#take({ signaling: result }));
    this.#take({ ice: await askIce(this.#token) });
    await signaling;
    const { ice } = seen;
    const username = ice.ok ? ice.ice.iceServers.find((entry) => entry.username)?.username : null;
    seen.context = {
      facts: ice.ok ? (ice.ice.server ?? null) : null,
      username,
      now: Date.now() / 1_000 + (ice.skew ?? 0),
      pageHost: location.hostname.toLowerCase(),
      pagePort: Number(location.port || (location.protocol === "https:" ? 443 : 80)),
    };
  }

  async #ways() {
    if (this.stopped) return;
    const ways = waysIn(this.seen.ice.ice);
    let tried = 0;
    this.#stage("ways", 0.05);
    this.#tell("ways", { ways });
    const told = (way, result) => {
      if (result) tried += 1;
      this.#tell("way", { way, result });
      this.#tell("part", { part: 0.05 + (0.35 * tried) / ways.length });
    };
    this.#take({ ways: await tryWays(ways, this.seen.context.pageHost, told, this.#make) });
  }

  async #network() {
    const { ways, context } = this.seen;
    if (this.stopped) return;
    this.#stage("nat", 0.42);
    const nat = await mapping(ways, this.#make);
    this.#take({ nat });
    if (this.stopped) return;
    this.#stage("outside", 0.5);
    const result = await this.#outside(ways, context);
    // The relay saw our outer port as well: a second destination where STUN had only one.
    if (nat.kind === "unknown" && result.state === "ok" && nat.seen.length > 0) {
      nat.kind = result.seen === "prflx" ? "symmetric" : "same-for-ports";
    }
    this.#take({ outside: result, nat });
  }

  async #outside(ways, { facts, pageHost }) {
    const turn = bestWay(ways, TRANSPORTS, pageHost);
    const stun = ways.find((way) => way.kind === "stun" && way.ok && way.host === (turn?.host ?? pageHost));
    if (!stun) return { state: "untested", why: "udp" };
    if (!turn) return { state: "untested", why: "unknown" };
    if (facts && !facts.clientIsPeer) return { state: "untested", why: "private" };
    return outside(turn, stun, this.#make).catch(() => ({ state: "untested" }));
  }

  async #passages() {
    const { ways, passages, context } = this.seen;
    for (const [index, transport] of TRANSPORTS.entries()) {
      if (this.stopped) return;
      const way = bestWay(ways, [transport], context.pageHost);
      if (!way) continue;
      this.#stage(`passage.${transport}`, 0.6 + (index * 0.4) / TRANSPORTS.length);
      const told = (what, value) => this.#tell("told", { transport, what, value });
      const result = await passage(way, told, this.#make).catch(() => ({ ok: false }));
      passages[transport] = { ...result, port: way.port };
      this.#take({ passages });
    }
  }

  #take(part) {
    Object.assign(this.seen, part);
    this.#tell("change");
  }

  #stage(stage, part) {
    this.#tell("stage", { stage });
    this.#tell("part", { part });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The way through the relay that a call would take: by transport, then the address of the page, then the usual ports. */
export function bestWay(ways, transports, pageHost) {
  const rank = ({ transport, host, port }) => {
    const place = BEST_PORTS.indexOf(port);
    return [transports.indexOf(transport), host === pageHost ? 0 : 1, place < 0 ? BEST_PORTS.length : place];
  };
  const usable = ways.filter(({ kind, ok, transport }) => kind === "turn" && ok && transports.includes(transport));
  const ranked = usable.map((way) => [rank(way), way]);
  const before = ([a], [b]) => a.map((value, index) => value - b[index]).find((difference) => difference !== 0) ?? 0;
  return ranked.sort(before)[0]?.[1] ?? null;
}

