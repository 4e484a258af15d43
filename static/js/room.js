// A room as a page sees it: the signaling session and one media connection per other peer. No DOM.
//
// Events:
//   state    of the signaling connection, as signaling.js gives it
//   joined   the server let us in (the first time and after each loss)
//   link     { link }: somebody is here;  unlink { link, reason }: and is gone
//   change   { link }: name, presence, connection state, route or info of a link changed
//   stream   { link }: a stream to show
//   fatal    { code, message }

import { refreshDelay, rtcConfiguration } from "./ice-config.js";
import { PeerLink } from "./peer.js";
import { Signaling } from "./signaling.js";

const MEASURE_EVERY = 1_500;

export class Room extends EventTarget {
  #options;
  #links = new Map();
  #ice = null;
  #refreshTimer;
  #absentTimer;
  #waiting = false;
  #measureTimer;

  /** `{ url, room, token, name, instance, session, seq, local, info, relay, RTCPeerConnection?, WebSocket? }`. */
  constructor(options) {
    super();
    this.#options = { relay: null, info: {}, ...options };
    this.self = null;
    this.limit = 0;
    this.signaling = new Signaling(options);
    this.signaling.addEventListener("state", ({ detail }) => this.#tell("state", detail));
    this.signaling.addEventListener("joined", ({ detail }) => this.#onJoined(detail));
    this.signaling.addEventListener("message", ({ detail }) => this.#onMessage(detail));
    this.signaling.addEventListener("fatal", ({ detail }) => this.#tell("fatal", detail));
  }

  get links() {
    return [...this.#links.values()];
  }

  /** The relay mode in force: `null` or one of RELAY_MODES. */
  get relay() {
    return this.#options.relay;
  }

  /** URLs left after the relay mode's filter: none means that the server offers no such way. */
  get usableServers() {
    return rtcConfiguration(this.#ice, this.relay).iceServers.length;
  }

  join() {
    this.signaling.connect();
    this.#measureTimer = setInterval(() => this.#measure(), MEASURE_EVERY);
  }

  leave() {
    clearInterval(this.#measureTimer);
    clearTimeout(this.#refreshTimer);
    clearTimeout(this.#absentTimer);
    this.signaling.leave();
    for (const link of this.links) this.#drop(link, "self");
  }

  async setTrack(kind, track) {
    await Promise.all(this.links.map((link) => link.setTrack(kind, track)));
  }

  tellInfo(info) {
    this.#options.info = info;
    for (const link of this.links) link.tellInfo(info);
  }

  /** Another relay mode, also in mid-call: the connections find their way again. */
  setRelay(mode) {
    this.#options.relay = mode;
    for (const link of this.links) {
      link.configure(this.#configuration());
      if (!link.negotiated) continue;
      if (mode) link.renew();
      else link.restart();
    }
  }

  #onJoined(message) {
    this.self = message.peer;
    this.limit = message.limit;
    this.#takeIce(message.ice);
    const here = new Set(message.peers.map((peer) => peer.peer));
    for (const peer of message.peers) this.#meet(peer);
    for (const link of this.links) {
      if (message.resumed && here.has(link.peer)) link.resync();
      if (!here.has(link.peer)) this.#miss(link);
    }
    this.#awaitAbsent(message);
    this.#tell("joined", message);
  }

  /** Peers missing after a restart of the server may be on their way back; those who can no longer are let go. */
  #awaitAbsent({ peers, limit, resume = 60 }) {
    clearTimeout(this.#absentTimer);
    this.#waiting = true;
    if (peers.length + 1 >= limit) return this.#forgetAbsent();
    this.#absentTimer = setTimeout(() => {
      this.#waiting = false;
      for (const link of this.links) if (link.absent && link.state !== "connected") this.#drop(link, "lost");
    }, resume * 1_000);
  }

  #onMessage(message) {
    const link = this.#links.get(message.from ?? message.peer);
    switch (message.type) {
      case "peer-joined":
        this.#meet(message);
        if (this.#links.size >= this.limit) this.#forgetAbsent();
        break;
      case "peer-left":
        if (link) this.#onLeft(link, message.reason);
        break;
      case "peer-lost":
      case "peer-back":
        if (link) this.#presence(link, message.type === "peer-back");
        break;
      case "offer":
      case "answer":
      case "candidate":
        link?.receive(message);
        break;
      case "bye":
        if (link) this.#drop(link, "left");
        break;
      case "ice":
        this.#takeIce(message.ice);
        break;
    }
  }

  /** A page we know keeps its connection under its new peer id; others get a new one. The newcomer calls. */
  #meet({ peer, instance, name, polite, connected = true }) {
    const known = this.#links.get(peer) ?? (instance && this.links.find((link) => link.instance === instance));
    if (known) {
      this.#links.delete(known.peer);
      this.#links.set(peer, known);
      known.rebind({ peer, name, polite, connected });
      this.#tell("change", { link: known });
      return;
    }
    const link = new PeerLink({
      peer,
      instance,
      name,
      polite,
      connected,
      configuration: this.#configuration(),
      local: this.#options.local,
      info: this.#options.info,
      send: (message) => this.signaling.send(message),
      RTCPeerConnection: this.#options.RTCPeerConnection,
    });
    this.#links.set(peer, link);
    for (const type of ["state", "info", "route", "trouble", "problem"]) {
      link.addEventListener(type, ({ detail }) => this.#onLink(link, type, detail));
    }
    link.addEventListener("stream", () => this.#tell("stream", { link }));
    this.#tell("link", { link });
    if (polite) link.start();
  }

  #onLink(link, type, detail) {
    if (type === "problem") console.warn("relais: negotiation:", detail);
    // A connection that nobody can repair any more ends when it breaks.
    if (type === "state" && link.absent && !this.#waiting && link.state === "failed") return this.#drop(link, "lost");
    this.#tell(type === "trouble" ? "trouble" : "change", { link, type, detail });
  }

  /** The server gave somebody up; while the media still flows there is no reason to hang up on them. */
  #onLeft(link, reason) {
    if (reason !== "lost" || link.state !== "connected") return this.#drop(link, reason);
    this.#miss(link);
  }

  #miss(link) {
    link.absent = true;
    this.#presence(link, false);
  }

  #forgetAbsent() {
    for (const link of this.links) if (link.absent) this.#drop(link, "lost");
  }

  #presence(link, connected) {
    link.connected = connected;
    if (connected) link.resync();
    this.#tell("change", { link });
  }

  #takeIce(ice) {
    if (!ice) return;
    this.#ice = ice;
    for (const link of this.links) link.configure(this.#configuration());
    clearTimeout(this.#refreshTimer);
    if (ice.ttl > 0) this.#refreshTimer = setTimeout(() => this.signaling.send({ type: "ice" }), refreshDelay(ice.ttl));
  }

  #configuration() {
    return rtcConfiguration(this.#ice, this.relay);
  }

  #drop(link, reason) {
    this.#links.delete(link.peer);
    link.close();
    this.#tell("unlink", { link, reason });
  }

  async #measure() {
    for (const link of this.links) {
      await link.measure().catch(() => {});
      this.#tell("change", { link });
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
