// Calls within this page, through the relay: from relay to relay, and between the relay and the world. No DOM.

import { readRoute } from "../../relais/stats.js";
import { answer, measureQuality, measureRate, openChannels, opened, warmUp } from "./measure.js";
import { connectionMaker } from "./ways.js";

/** A connection through the relay is there within half a second; a loaded machine takes longer. */
const CONNECT_WITHIN = 8_000;
const GATHER_WITHIN = 6_000;
/** After the first candidate: others of this page follow within one round trip. */
const MORE_WITHIN = 500;

/**
 * Two connections of this page, each with a relayed address made over `way`, call each other: what goes through the
 * relay, and how well. `told` gets `(what, value)` while it runs. Gives `{ ok, connect, loss, rtt, jitter, mbps, relayed }`.
 */
export async function passage(way, told = () => {}, make = connectionMaker) {
  const configuration = { iceServers: [way.server], iceTransportPolicy: "relay" };
  const [near, far] = [make(configuration), make(configuration)];
  const started = performance.now();
  try {
    carry(near, far);
    carry(far, near);
    const channels = [near, far].map(openChannels);
    answer(channels[1]);
    await introduce(near, far);
    const isOpen = await within(opened(channels[0]), CONNECT_WITHIN);
    const connect = Math.round(performance.now() - started);
    if (!isOpen || !(await warmUp(channels[0]))) return { ok: false };
    told("connected", connect);
    const quality = await measureQuality(channels[0], (time) => told("rtt", time));
    const mbps = await measureRate(channels[0], (value) => told("rate", value));
    const route = readRoute(await near.getStats());
    return { ok: true, connect, ...quality, mbps, relay: route?.relay ?? null };
  } finally {
    near.close();
    far.close();
  }
}

/**
 * Between the relay and the world: one side uses the relay over `way`, the other its own address as the STUN server at
 * `stun` sees it. Gives `{ state, remote, asked, relayed, seen }`: `state` is `ok`, `failed` or `untested`; `remote` the
 * type of candidate that the relay's packets came from (`prflx`: not from where it says); `asked`: how many of them came;
 * `seen`: the type of our candidate as the relay sees it (`prflx`: another outer port than STUN told).
 */
export async function outside(way, stun, make = connectionMaker) {
  const relayed = make({ iceServers: [way.server], iceTransportPolicy: "relay" });
  const plain = make({ iceServers: [{ urls: stun.url }] });
  try {
    const [theirs, ours] = [gathered(relayed, ({ type }) => type === "relay"), gathered(plain, isOwnAddress)];
    const channels = [relayed, plain].map(openChannels);
    await relayed.setLocalDescription();
    await plain.setRemoteDescription(relayed.localDescription);
    // The relayed address is known first, so that its packets are known by it.
    const relays = await theirs;
    for (const candidate of relays) await plain.addIceCandidate(candidate);
    await plain.setLocalDescription();
    await relayed.setRemoteDescription(plain.localDescription);
    const own = await ours;
    const family = (candidate) => candidate.address?.includes(":");
    const usable = own.filter((candidate) => relays.some((relay) => family(relay) === family(candidate)));
    if (relays.length === 0 || usable.length === 0) return { state: "untested" };
    for (const candidate of usable) await relayed.addIceCandidate(candidate);
    const isOpen = await within(opened(channels[1]), CONNECT_WITHIN);
    const pairs = pairsOf(await plain.getStats());
    const best = pairs.find((pair) => pair.selected) ?? pairs.toSorted((a, b) => b.asked - a.asked)[0];
    return {
      state: isOpen ? "ok" : "failed",
      remote: best?.remote ?? null,
      asked: pairs.reduce((sum, pair) => sum + pair.asked, 0),
      relayed: { address: relays[0].address, port: relays[0].port },
      seen: readRoute(await relayed.getStats())?.remote ?? null,
    };
  } finally {
    relayed.close();
    plain.close();
  }
}

/** An address that leads somewhere: a `.local` name of mDNS means nothing to a relay. */
function isOwnAddress({ type, address, protocol }) {
  return protocol === "udp" && type !== "relay" && Boolean(address) && !address.endsWith(".local");
}

/** Trickles the candidates of one to the other, which may not be ready yet. */
function carry(from, to) {
  const early = [];
  from.addEventListener("icecandidate", ({ candidate }) => {
    if (!candidate) return;
    if (to.remoteDescription) to.addIceCandidate(candidate).catch(() => {});
    else early.push(candidate);
  });
  to.addEventListener("signalingstatechange", () => {
    if (!to.remoteDescription) return;
    for (const candidate of early.splice(0)) to.addIceCandidate(candidate).catch(() => {});
  });
}

async function introduce(near, far) {
  await near.setLocalDescription();
  await far.setRemoteDescription(near.localDescription);
  await far.setLocalDescription();
  await near.setRemoteDescription(far.localDescription);
}

/** The candidates that `keep` wants: those that are there a moment after the first one, or none in time. */
function gathered(connection, keep) {
  const kept = [];
  return new Promise((done) => {
    connection.addEventListener("icecandidate", ({ candidate }) => {
      if (!candidate?.candidate) return done(kept);
      if (!keep(candidate)) return;
      kept.push(candidate);
      setTimeout(done, MORE_WITHIN, kept);
    });
    setTimeout(done, GATHER_WITHIN, kept);
  });
}

function pairsOf(report) {
  const selected = [...report.values()].find((one) => one.type === "transport")?.selectedCandidatePairId;
  const pairs = [...report.values()].filter((one) => one.type === "candidate-pair");
  return pairs.map((pair) => ({
    selected: pair.id === selected || pair.selected === true,
    asked: pair.requestsReceived ?? 0,
    remote: report.get(pair.remoteCandidateId)?.candidateType ?? null,
  }));
}

async function within(promise, milliseconds) {
  let late;
  const timeout = new Promise((done) => {
    late = setTimeout(done, milliseconds, false);
  });
  const result = await Promise.race([promise.then(() => true), timeout]);
  clearTimeout(late);
  return result;
}
