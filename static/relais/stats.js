// What getStats says about the way a call takes. No DOM.

/** How the selected pair runs, or `null` while there is none. Types are those of RFC 8445 (`host`, `srflx`, …). */
export function readRoute(report) {
  const pair = selectedPair(report);
  const local = pair && report.get(pair.localCandidateId);
  const remote = pair && report.get(pair.remoteCandidateId);
  if (!local || !remote) return null;
  return {
    local: local.candidateType,
    remote: remote.candidateType,
    // Chromium leaves relayProtocol out for UDP in some versions.
    relay: local.candidateType === "relay" ? (local.relayProtocol || "udp") : null,
    roundTrip: pair.currentRoundTripTime ?? null,
    bytes: (pair.bytesSent ?? 0) + (pair.bytesReceived ?? 0),
    at: pair.timestamp,
  };
}

function selectedPair(report) {
  let fallback = null;
  for (const entry of report.values()) {
    if (entry.type === "transport" && entry.selectedCandidatePairId) return report.get(entry.selectedCandidatePairId);
    if (entry.type === "candidate-pair" && entry.state === "succeeded" && (entry.selected || entry.nominated)) {
      fallback = entry;
    }
  }
  return fallback;
}

/**
 * One verdict from both ends: what our own statistics say and what the other page says of its side.
 * Its word on itself is better than ours: a peer-reflexive candidate may hide a relay or a plain host address.
 * Returns `{ kind: "direct" | "stun" | "relay", transports: ["udp", …] }`.
 */
export function judgeRoute(mine, theirs) {
  if (!mine) return null;
  const far = theirs?.local ?? mine.remote;
  if (mine.local === "relay" || far === "relay") {
    const transports = [mine.relay, theirs?.relay].filter(Boolean);
    return { kind: "relay", transports: [...new Set(transports)] };
  }
  const seenThroughNat = [mine.local, far].some((type) => type === "srflx" || type === "prflx");
  return { kind: seenThroughNat ? "stun" : "direct", transports: [] };
}

/** Bits per second between two routes read one after the other; `null` when they cannot be compared. */
export function bitRate(before, now) {
  if (!before || !now || now.at <= before.at || now.bytes < before.bytes) return null;
  return ((now.bytes - before.bytes) * 8_000) / (now.at - before.at);
}
