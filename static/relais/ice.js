// From the server's ICE configuration (`/api/ice`, join reply) to what a connection is given. No DOM.

/** The relay modes: every relay URL, or only those of one transport between us and the relay. */
export const RELAY_MODES = ["any", "udp", "tcp", "tls"];

/** How a URL of RFC 7065 reaches its relay: `udp`, `tcp` or `tls`; `null` for `stun:`. */
export function relayTransport(url) {
  const match = /^(turns?):[^?]+(?:\?transport=(\w+))?$/i.exec(url);
  if (!match) return null;
  if (match[1].toLowerCase() === "turns") return match[2]?.toLowerCase() === "udp" ? null : "tls";
  return (match[2] ?? "udp").toLowerCase();
}

/**
 * The `RTCConfiguration` for a relay mode; without one every URL is offered and every way is allowed.
 * max-bundle: one transport for audio, video and data, so one relay allocation per URL and not three.
 */
export function rtcConfiguration(ice, mode = null) {
  const all = ice?.iceServers ?? [];
  if (!mode) return { iceServers: all, iceTransportPolicy: "all", bundlePolicy: "max-bundle" };
  const wanted = (url) => {
    const transport = relayTransport(url);
    return transport !== null && (mode === "any" || transport === mode);
  };
  const iceServers = all
    .map((server) => ({ ...server, urls: [server.urls].flat().filter(wanted) }))
    .filter((server) => server.urls.length > 0);
  return { iceServers, iceTransportPolicy: "relay", bundlePolicy: "max-bundle" };
}

/**
 * Milliseconds until fresh credentials are to be asked for. The server sends them unasked at three quarters of their
 * life; who has none by seven eighths asks.
 */
export function refreshDelay(ttl) {
  return Math.min(Math.max(ttl * 875, 5_000), 86_400_000);
}
