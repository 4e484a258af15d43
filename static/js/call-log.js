// Keeps what happens in a room in the page's log. People are told apart by their id, not by name.

import { logConnection } from "./log.js";

/** Figures are read more often than anybody needs them afterwards. */
const FIGURES_EVERY = 6_000;

/** Logs the states, connections and figures of everyone in `room` from now on. */
export function followRoom(log, room) {
  const connections = new WeakMap();
  const figuresAt = new WeakMap();
  const on = (type, handler) => room.addEventListener(type, ({ detail }) => handler(detail));
  const watch = (peer) => {
    if (connections.get(peer) === peer.connection) return;
    connections.set(peer, peer.connection);
    logConnection(log, peer.connection, peer.id);
  };
  on("state", (state) => log.add("server", state));
  on("joined", ({ peer, role, resumed, limit, peers, ice }) => {
    const others = peers.map((one) => one.peer);
    const servers = ice?.iceServers?.flatMap(({ urls }) => urls);
    log.add("joined", { peer, role, resumed, limit, others, servers, ttl: ice?.ttl });
  });
  on("peer", ({ peer }) => {
    log.add("peer", { peer: peer.id, role: peer.role, polite: peer.polite });
    watch(peer);
  });
  on("peer-left", ({ peer, reason }) => log.add("peer-left", { peer: peer.id, reason }));
  for (const type of ["lock", "draining", "refused", "closed"]) on(type, (detail) => log.add(type, detail));
  on("change", ({ peer, type }) => {
    watch(peer);
    if (type === "route") log.add("route", { peer: peer.id, ...peer.route });
    if (type || !peer.figures || performance.now() - (figuresAt.get(peer) ?? -Infinity) < FIGURES_EVERY) return;
    figuresAt.set(peer, performance.now());
    log.add("figures", { peer: peer.id, state: peer.state, route: peer.route, roundTrip: peer.roundTrip, ...peer.figures });
  });
}
