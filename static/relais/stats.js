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
    sent: pair.bytesSent ?? 0,
    received: pair.bytesReceived ?? 0,
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

/** What the streams of a connection have carried so far, both directions. */
export function readMedia(report) {
  const media = { packets: 0, lost: 0, shown: null, camera: null, lostOut: null };
  for (const entry of report.values()) {
    if (entry.type === "inbound-rtp") {
      media.packets += entry.packetsReceived ?? 0;
      media.lost += entry.packetsLost ?? 0;
      if (entry.kind === "video") media.shown = picture(entry);
    } else if (entry.type === "outbound-rtp" && entry.kind === "video") {
      const sent = picture(entry);
      if (sent) media.camera = { ...sent, limited: entry.qualityLimitationReason ?? null };
    } else if (entry.type === "remote-inbound-rtp" && typeof entry.fractionLost === "number") {
      media.lostOut = Math.max(media.lostOut ?? 0, entry.fractionLost);
    }
  }
  return media;
}

/** Firefox leaves the sizes out while there is no picture. */
function picture({ frameWidth = 0, frameHeight = 0, framesPerSecond = 0 }) {
  return frameWidth > 0 ? { width: frameWidth, height: frameHeight, rate: framesPerSecond } : null;
}

/**
 * What a person is shown of a connection: bits per second `in` and `out`, lost parts (0 to 1) `lossIn` and `lossOut`,
 * and the pictures `shown` and `sent` (`{ width, height, rate }`). `null` is what is not known (yet). `before` and `now`:
 * `{ route, media }`, read one after the other.
 */
export function figures(before, now) {
  const packets = before ? now.media.packets - before.media.packets : 0;
  const lost = before ? now.media.lost - before.media.lost : 0;
  return {
    in: bitRate(before?.route, now.route, "received"),
    out: bitRate(before?.route, now.route, "sent"),
    lossIn: packets > 0 ? Math.min(Math.max(lost, 0) / (packets + Math.max(lost, 0)), 1) : null,
    lossOut: now.media.lostOut,
    shown: now.media.shown,
    sent: now.media.camera,
  };
}

/** Bits per second, of what was `sent` or `received`, between two routes; `null` when they cannot be compared. */
export function bitRate(before, now, direction) {
  if (!before || !now || now.at <= before.at || now[direction] < before[direction]) return null;
  return ((now[direction] - before[direction]) * 8_000) / (now.at - before.at);
}
