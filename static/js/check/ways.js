// The ways to the server: each STUN or TURN URL of `/api/ice?all=1`, tried by itself. No DOM.

/** Success takes some 130 ms; a silent firewall would keep browsers waiting for 10 s to minutes. */
const PATIENCE = 6_000;
/** After the first error: another address or family of the same name may still answer. */
const GRACE = 1_500;
/** How many are tried at the same time: each costs sockets. */
const AT_ONCE = 6;

/** What a URL of RFC 7064 or 7065 says: `{ url, kind, transport, host, port, family }`; `null` for others. */
export function parseUrl(url) {
  const match = /^(stun|turns?):(\[[^\]]+\]|[^:?]+):(\d+)(?:\?transport=(\w+))?$/i.exec(url);
  if (!match) return null;
  const [, scheme, host, port, named] = match;
  const isTls = scheme.toLowerCase() === "turns";
  return {
    url,
    kind: scheme.toLowerCase() === "stun" ? "stun" : "turn",
    transport: isTls ? "tls" : (named ?? "udp").toLowerCase(),
    host: host.toLowerCase(),
    port: Number(port),
    family: familyOf(host),
  };
}

/** `ipv4` or `ipv6` of a literal address, with brackets or without; `null` of a name. */
export function familyOf(host) {
  if (/^\d+\.\d+\.\d+\.\d+$/.test(host)) return "ipv4";
  return host.includes(":") ? "ipv6" : null;
}

/** The ways in an ICE configuration, STUN before TURN, each with the entry for a connection of its own. */
export function waysIn(ice) {
  const all = ice.iceServers.flatMap((entry) => [entry.urls].flat().map((url) => [entry, parseUrl(url)]));
  return all.filter(([, way]) => way).map(([{ username, credential }, way]) => ({
    ...way,
    server: { urls: way.url, ...(username ? { username, credential } : {}) },
  }));
}

/**
 * Tries all ways, those to other addresses than `pageHost` first: they are silent most often, and so the others do not wait
 * for them. `told` gets each way and its result. Gives the results in the order of the ways.
 */
export async function tryWays(ways, pageHost, told, make) {
  const results = new Array(ways.length);
  const waiting = [...ways.keys()].sort((a, b) => (ways[a].host === pageHost) - (ways[b].host === pageHost) || a - b);
  const worker = async () => {
    while (waiting.length > 0) {
      const at = waiting.shift();
      told(ways[at], null);
      results[at] = { ...ways[at], ...(await gather(ways[at], make)) };
      told(ways[at], results[at]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results.map((way) => answeredUnseen(way, results));
}

/**
 * STUN that gives no candidate says nothing where the browser leaves out one that repeats its own address, and still waits
 * for another family: then TURN on the same port tells that it answers.
 */
function answeredUnseen(way, ways) {
  const isSame = ({ kind, transport, host, port, ok }) => ok && kind === "turn" && transport === "udp" && host === way.host && port === way.port;
  return way.kind === "stun" && way.code === 0 && ways.some(isSame) ? { ...way, ok: true, ms: null } : way;
}

/**
 * Gathers with one URL. Gives `{ ok, ms, seen: { address, port } }`, what the candidate says, or `{ ok, ms, code, text }` of
 * the icecandidateerror (0: silence). A client without NAT whose address is no secret gets no srflx candidate of its own.
 */
export async function gather({ kind, server }, make = connectionMaker) {
  const wanted = kind === "stun" ? "srflx" : "relay";
  const started = performance.now();
  let connection;
  try {
    connection = make({ iceServers: [server], iceTransportPolicy: kind === "stun" ? "all" : "relay" });
  } catch (error) {
    return { ok: false, ms: 0, code: -1, text: error.message };
  }
  const outcome = new Promise((done) => {
    let failure = null;
    connection.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate?.type === wanted) done({ ok: true, seen: { address: candidate.address, port: candidate.port } });
    });
    connection.addEventListener("icecandidateerror", ({ errorCode, errorText }) => {
      failure = { ok: false, code: errorCode, text: errorText ?? "" };
      setTimeout(done, errorCode >= 700 ? GRACE : 0, failure);
    });
    connection.addEventListener("icegatheringstatechange", () => {
      if (connection.iceGatheringState !== "complete") return;
      done(failure ?? (kind === "stun" ? { ok: true } : { ok: false, code: 0, text: "" }));
    });
    setTimeout(() => done(failure ?? { ok: false, code: 0, text: "" }), PATIENCE);
  });
  try {
    await begin(connection);
    const result = await outcome;
    return { ...result, ms: Math.round(performance.now() - started) };
  } finally {
    connection.close();
  }
}

/** Makes connections with one transport each. */
export function connectionMaker(configuration) {
  return new RTCPeerConnection({ bundlePolicy: "max-bundle", ...configuration });
}

/** Starts gathering, without anything but a data channel: a page that may use the camera shows more addresses. */
export async function begin(connection) {
  connection.createDataChannel("check");
  await connection.setLocalDescription();
}

/**
 * The kind of NAT, as far as browsers show it: one socket asks several STUN servers, and how many outer ports it gets
 * tells the mapping (RFC 5780 section 4.3). `none`, `endpoint-independent`, `same-for-ports` (one address was asked on
 * several ports), `symmetric`, or `unknown`; with the outer addresses.
 */
export async function mapping(results, make = connectionMaker) {
  const answered = results.filter((way) => way.kind === "stun" && way.ok);
  const asked = largestFamily(answered);
  if (asked.length === 0) return { kind: "unknown", seen: [] };
  const connection = make({ iceServers: [{ urls: asked.map(({ url }) => url) }] });
  const seen = [];
  const hosts = new Set();
  try {
    const over = new Promise((done) => {
      connection.addEventListener("icecandidate", ({ candidate }) => {
        if (!candidate?.candidate) return done();
        if (candidate.type === "host") hosts.add(candidate.address);
        if (candidate.type !== "srflx") return;
        seen.push({ address: candidate.address, port: candidate.port, group: candidate.foundation });
      });
      setTimeout(done, PATIENCE / 2);
    });
    await begin(connection);
    await over;
  } finally {
    connection.close();
  }
  return { kind: kindOf(seen, hosts, asked), seen: seen.map(({ address, port }) => ({ address, port })) };
}

/** Names say nothing of the family; literals of one family belong together. */
function largestFamily(ways) {
  const [ipv6, others] = [ways.filter(({ family }) => family === "ipv6"), ways.filter(({ family }) => family !== "ipv6")];
  return (ipv6.length > others.length ? ipv6 : others).slice(0, 4);
}

/** What a socket's outer addresses say. Browsers leave out a candidate that repeats another one. */
export function kindOf(seen, hosts, asked) {
  if (seen.length === 0 || seen.every(({ address }) => hosts.has(address))) return "none";
  const ports = new Map();
  for (const { address, port, group } of seen) {
    const key = `${group} ${address}`;
    ports.set(key, (ports.get(key) ?? new Set()).add(port));
  }
  if ([...ports.values()].some((different) => different.size > 1)) return "symmetric";
  if (new Set(asked.map(({ host }) => host)).size > 1 && asked.every(({ family }) => family)) return "endpoint-independent";
  return asked.length > 1 ? "same-for-ports" : "unknown";
}
