// What a data channel carries: loss, round trip, jitter, throughput. Both ends answer each other. No DOM.

/** As a voice call: 160 bytes, fifty times a second. */
const PACKETS = 100;
const PACKET_BYTES = 160;
const INTERVAL = 20;
/** Time for the last packet to come back. */
const LAST_WAIT = 1_000;
/** The throughput test ends after this time or this many bytes, so that a metered line is not eaten up. */
const RATE_TIME = 2_000;
const RATE_BYTES = 24_000_000;
const CHUNK = 16_384;
/** Bytes that wait in the browser while more are written. */
const HIGH_WATER = 512_000;
/** The receiver tells what has arrived this often, in milliseconds. */
const TELL_EVERY = 100;

/** Tries to reach the other end, and the time between them. */
const WARM_UP = 150;
const WARM_UP_EVERY = 100;
/** Number of a packet that is not counted. */
const UNCOUNTED = 0xffff_ffff;

const PING = 1;
const PONG = 2;

/** Opens the two channels of a measurement, by number, on both sides: `probe` loses packets, `bulk` does not. */
export function openChannels(connection) {
  const probe = connection.createDataChannel("probe", { negotiated: true, id: 100, ordered: false, maxRetransmits: 0 });
  const bulk = connection.createDataChannel("bulk", { negotiated: true, id: 101 });
  for (const channel of [probe, bulk]) channel.binaryType = "arraybuffer";
  return { probe, bulk };
}

/** Resolves when both are open. */
export function opened({ probe, bulk }) {
  const isOpen = (channel) =>
    new Promise((done) => (channel.readyState === "open" ? done() : channel.addEventListener("open", done, { once: true })));
  return Promise.all([probe, bulk].map(isOpen));
}

/** Sends until something comes back: the other end may open its channels later. `false` when nothing does in time. */
export async function warmUp({ probe }) {
  let isBack = false;
  const take = () => {
    isBack = true;
  };
  probe.addEventListener("message", take, { once: true });
  for (let tries = 0; tries < WARM_UP && !isBack && probe.readyState === "open"; tries += 1) {
    probe.send(packet(UNCOUNTED));
    await pause(WARM_UP_EVERY);
  }
  probe.removeEventListener("message", take);
  return isBack;
}

/** Answers the other end: packets come back, and what has arrived in bulk is told. */
export function answer({ probe, bulk }) {
  probe.addEventListener("message", ({ data }) => {
    const bytes = new Uint8Array(data);
    if (bytes[0] !== PING || probe.readyState !== "open") return;
    bytes[0] = PONG;
    probe.send(bytes);
  });
  let total = 0;
  let told = 0;
  bulk.addEventListener("message", ({ data }) => {
    if (typeof data === "string") return;
    total += data.byteLength;
    const now = performance.now();
    if (now - told < TELL_EVERY || bulk.readyState !== "open") return;
    told = now;
    bulk.send(JSON.stringify({ received: total }));
  });
}

/** Sends packets that the other end sends back. `told` gets each round trip in milliseconds. */
export async function measureQuality({ probe }, told = () => {}) {
  const sentAt = [];
  const times = [];
  const back = new Set();
  const take = ({ data }) => {
    const view = new DataView(data);
    const number = view.getUint32(1);
    if (view.getUint8(0) !== PONG || back.has(number) || sentAt[number] === undefined) return;
    back.add(number);
    times.push(performance.now() - sentAt[number]);
    told(times.at(-1));
  };
  probe.addEventListener("message", take);
  await new Promise((done) => {
    const timer = setInterval(() => {
      if (probe.readyState === "open" && sentAt.length < PACKETS) {
        probe.send(packet(sentAt.length));
        sentAt.push(performance.now());
        return;
      }
      clearInterval(timer);
      done();
    }, INTERVAL);
  });
  const end = performance.now() + LAST_WAIT;
  while (back.size < sentAt.length && performance.now() < end) await pause(INTERVAL);
  probe.removeEventListener("message", take);
  return summary(sentAt.length, times);
}

/** Loss as a share, median round trip and jitter (mean difference from one round trip to the next) in milliseconds. */
export function summary(sent, times) {
  const sorted = times.toSorted((a, b) => a - b);
  const steps = times.slice(1).map((time, index) => Math.abs(time - times[index]));
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
  return {
    sent,
    received: times.length,
    loss: sent > 0 ? 1 - times.length / sent : null,
    rtt: sorted[Math.floor(sorted.length / 2)] ?? null,
    jitter: mean(steps),
  };
}

/** Sends as much as gets through for a while. `told` gets megabits per second; so does who waits for the end. */
export async function measureRate({ bulk }, told = () => {}) {
  const chunk = new Uint8Array(CHUNK);
  const seen = [];
  const take = ({ data }) => {
    if (typeof data !== "string") return;
    seen.push({ at: performance.now(), bytes: JSON.parse(data).received });
    if (seen.length > 1) told(rate(seen.at(-2), seen.at(-1)));
  };
  bulk.addEventListener("message", take);
  bulk.bufferedAmountLowThreshold = HIGH_WATER / 2;
  const end = performance.now() + RATE_TIME;
  for (let sent = 0; performance.now() < end && sent < RATE_BYTES && bulk.readyState === "open"; sent += CHUNK) {
    bulk.send(chunk);
    if (bulk.bufferedAmount > HIGH_WATER) await drained(bulk, end);
  }
  // What is told last may still be under way.
  await pause(2 * TELL_EVERY);
  bulk.removeEventListener("message", take);
  return seen.length > 1 ? rate(seen[0], seen.at(-1)) : null;
}

function rate(before, now) {
  return ((now.bytes - before.bytes) * 8) / 1_000 / (now.at - before.at);
}

function drained(channel, end) {
  return new Promise((done) => {
    channel.addEventListener("bufferedamountlow", done, { once: true });
    setTimeout(done, Math.max(end - performance.now(), 0));
  });
}

function packet(number) {
  const view = new DataView(new ArrayBuffer(PACKET_BYTES));
  view.setUint8(0, PING);
  view.setUint32(1, number);
  return view;
}

export function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}
