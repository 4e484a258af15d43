// The report for whoever is asked for help: what was seen, as JSON, without anything that lets anybody in. No DOM.

import { isPrivate } from "./cause.js";

/** `words`: the verdict in the language of the page. */
export function reportOf(run, { status, causes, works }, findings, words) {
  const { seen } = run;
  const facts = seen.context?.facts ?? null;
  return {
    product: "Relais",
    kind: "check",
    version: 1,
    at: new Date(run.started).toISOString(),
    seconds: run.seconds,
    stopped: run.stopped,
    page: location.origin + location.pathname,
    browser: navigator.userAgent,
    verdict: { status, causes, title: words.title, remedy: words.remedy },
    works: works.map(({ transport, port, host }) => ({ transport, host, port })),
    server: facts && {
      address: facts.address,
      publicIps: facts.publicIps,
      relayPorts: facts.relayPorts,
      certificatePublic: facts.certificatePublic,
      udpReached: facts.udpReached,
      skew: seen.ice?.skew ?? null,
    },
    client: facts && { address: shorten(facts.client), private: isPrivate(facts.client), peer: facts.clientIsPeer },
    configuration: seen.ice ? { ok: seen.ice.ok, ms: seen.ice.ms, code: seen.ice.code ?? null } : null,
    signaling: seen.signaling ?? null,
    nat: seen.nat ? { kind: seen.nat.kind, ports: seen.nat.seen.length } : null,
    outside: seen.outside ?? null,
    relay: seen.passages,
    findings: findings.map(({ id, level, cause, values }) => ({ id, level, cause, ...wayOf(values?.way) })),
  };
}

function wayOf(way) {
  if (!way) return {};
  const { kind, transport, host, port, ok, ms, code, text, seen } = way;
  // What STUN sees is the person's own address.
  const address = kind === "stun" && seen?.address ? shorten(seen.address) : seen?.address;
  return { kind, transport, host, port, ok, ms, ...(ok ? { address } : { code, text }) };
}

/** The network of an address, not the person: 203.0.113.x, 2001:db8:1:x. */
export function shorten(address) {
  if (!address.includes(":")) return address.replace(/\.\d+$/, ".x");
  return `${address.split(":").slice(0, 3).join(":")}:x`;
}
