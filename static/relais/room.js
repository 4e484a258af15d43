// A room as a page sees it: the signaling session and one media connection per other peer. No DOM.
// The events are described where pages find them: `Room` in PROTOCOL.md.

import { refreshDelay, rtcConfiguration } from "./ice.js";
import { localMedia, videoLimit } from "./media.js";
import { Peer } from "./peer.js";
import { Signaling } from "./signaling.js";

const MEASURE_EVERY = 1_500;
/** A broken connection to somebody whom the server gave up may still mend by itself within this. */
const BROKEN_FOR = 4_000;
/** How long an invite may be on its way. */
const ANSWER_WITHIN = 10_000;
/** In a stream media goes one way. */
const DIRECTIONS = { streamer: "sendonly", viewer: "recvonly" };
/** The server ended our stay: the connections end with it. After other refusals they may go on. */
const FINAL = new Set(["kicked", "room-closed", "token-revoked"]);

/** Who is in the room, and everything that is said to and heard from the server. */
export class Room extends EventTarget {
  #options;
  #local;
  #signaling;
  #peers = new Map();
  #wishes = new Map();
  #lastWish = 0;
  #ice = null;
  #iceUntil = Infinity;
  #refreshTimer;
  #absentTimer;
  #waiting = false;
  #measureTimer;
  #videoLimit = null;

  /** Made by `join` of relais.js, which says what the options are. */
  constructor(options) {
    super();
    this.#options = { relay: null, info: {}, ...options };
    this.#local = localMedia(options.media);
    /** @type {string} */
    this.name = options.room;
    /** @type {string | null} Our own id, given by the server. */
    this.id = null;
    /** @type {"host" | "member" | "streamer" | "viewer" | null} */
    this.role = null;
    this.limit = 0;
    /** Does the room take nobody new? */
    this.locked = false;
    /** How many peers of the role `viewer` are in it. */
    this.viewers = 0;
    /** Of a stream's streamer: are viewers being called? */
    this.live = !options.held;
    this.#signaling = new Signaling({ ...options, url: `${options.server.replace(/^http/, "ws")}/api/ws` });
    this.#signaling.addEventListener("state", ({ detail }) => this.#tell("state", detail));
    this.#signaling.addEventListener("joined", ({ detail }) => this.#onJoined(detail));
    this.#signaling.addEventListener("message", ({ detail }) => this.#onMessage(detail));
    this.#signaling.addEventListener("fatal", ({ detail }) => this.#onFatal(detail));
  }

  /** @returns {Peer[]} The others, in the order they were met. */
  get peers() {
    return [...this.#peers.values()];
  }

  /** @returns {"connecting" | "joined" | "waiting" | "closed"} Of the signaling connection. */
  get state() {
    return this.#signaling.state;
  }

  /** What `join` needs, as `session` and `seq`, to take this place again after the page was reloaded. */
  get ticket() {
    return { session: this.#signaling.session, seq: this.#signaling.seq };
  }

  /** The relay mode in force: `null` or one of RELAY_MODES. */
  get relay() {
    return this.#options.relay;
  }

  /** Servers left after the relay mode's filter: none means that the server offers no such way. */
  get usableServers() {
    return rtcConfiguration(this.#ice, this.relay).iceServers.length;
  }

  /** Connects. `join` of relais.js does it. */
  join() {
    this.#signaling.connect();
    this.#measureTimer = setInterval(() => this.#measure(), MEASURE_EVERY);
  }

  /** Leaves for good: the connections end, and the server ends our relayed addresses. */
  leave() {
    this.#signaling.leave();
    this.#end("self");
  }

  /** Tells the server at once that the page goes away; `ticket` still takes the place again after a reload. */
  goAway() {
    this.#signaling.leave();
  }

  /** The network came back or changed: does not wait for the end of the delay, and tries whether the server still hears us. */
  retry() {
    this.#signaling.retryNow();
  }

  /**
   * Sends another track of a kind (or none) to everyone from now on; no connection is negotiated again.
   * @param {"audio" | "video"} kind
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(kind, track) {
    this.#local.set?.(kind, track);
    await Promise.all(this.peers.map((peer) => peer.setTrack(kind, track)));
  }

  /** What the other pages find as `info` of this one: any JSON object. It goes from page to page. */
  setInfo(info) {
    this.#options.info = info;
    for (const peer of this.peers) peer.setInfo(info);
  }

  /** Streamer: sends to everybody who watches or comes, after `held` or `pause`. */
  begin() {
    if (this.live) return;
    this.live = true;
    for (const peer of this.peers) peer.start();
  }

  /** Streamer: ends what is sent, and keeps the place: the viewers wait for `begin`. */
  pause() {
    this.live = false;
    this.#signaling.send({ type: "bye" });
    for (const peer of this.peers) peer.reset();
  }

  /** Streamer: how much picture each viewer gets at most, `{ maxBitrate, scaleDown }`; `null`: what the way carries. */
  limitVideo(limit) {
    this.#videoLimit = limit;
    this.#share();
  }

  /** Another relay mode, also in mid-call: the connections find their way again. */
  setRelay(mode) {
    this.#options.relay = mode;
    for (const peer of this.peers) {
      this.#configure(peer);
      if (!peer.negotiated) continue;
      if (mode) peer.renew();
      else peer.restart();
    }
  }

  /** Host: removes a peer; what it has at the relay ends at once. `peer-left` tells that it is done. */
  kick(peer) {
    this.#signaling.send({ type: "kick", peer: peer.id });
  }

  /** Host: lets nobody new in (or somebody again). `lock` tells that it is done. */
  lock(locked = true) {
    this.#signaling.send({ type: "lock", locked });
  }

  /** Host: ends the room for everybody, this page too: `closed` with the code `room-closed`. */
  close() {
    this.#signaling.send({ type: "close" });
  }

  /**
   * Host: a token that lets somebody else into this room, for the `#t=` of a link.
   * @param {{role?: "host" | "member" | "streamer" | "viewer", name?: string, ttl?: number}} [wanted] `ttl` in seconds
   * @returns {Promise<{token: string, role: string, expiresAt: number}>} rejected when it does not come within 10 s
   */
  invite(wanted = {}) {
    this.#lastWish += 1;
    const id = String(this.#lastWish);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => this.#grant(id, null), ANSWER_WITHIN);
      this.#wishes.set(id, { resolve, reject, late });
      this.#signaling.send({ ...wanted, type: "invite", id });
    });
  }

  #grant(id, invite) {
    const wish = this.#wishes.get(id);
    if (!wish) return;
    this.#wishes.delete(id);
    clearTimeout(wish.late);
    if (invite) wish.resolve(invite);
    else wish.reject(new Error("the server gave no invite"));
  }

  #onJoined(message) {
    Object.assign(this, { id: message.peer, role: message.role, limit: message.limit });
    Object.assign(this, { locked: message.locked === true, viewers: message.viewers ?? 0 });
    this.#takeIce(message.ice);
    const here = new Set(message.peers.map(({ peer }) => peer));
    for (const peer of message.peers) this.#meet(peer, here);
    for (const peer of this.peers) {
      if (message.resumed && here.has(peer.id)) peer.resync();
      if (!here.has(peer.id)) this.#miss(peer);
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
      for (const peer of this.peers) if (peer.absent && peer.state !== "connected") this.#drop(peer, "lost");
    }, resume * 1_000);
  }

  #onMessage(message) {
    const peer = this.#peers.get(message.from ?? message.peer);
    switch (message.type) {
      case "peer-joined":
        this.#meet(message);
        if (this.#peers.size >= this.limit) this.#forgetAbsent();
        break;
      case "peer-left":
        if (peer) this.#onLeft(peer, message.reason);
        break;
      case "peer-lost":
      case "peer-back":
        if (peer) this.#presence(peer, message.type === "peer-back");
        break;
      case "offer":
      case "answer":
      case "candidate":
        // Before it begins and after it ends a stream answers nobody.
        if (this.live) peer?.receive(message);
        break;
      case "bye":
        if (peer) this.#onBye(peer);
        break;
      case "ice":
        this.#takeIce(message.ice);
        break;
      case "lock":
        this.locked = message.locked;
        this.#tell("lock", { locked: message.locked, by: message.by });
        break;
      case "draining":
        this.#tell("draining", { seconds: message.seconds });
        break;
      case "viewers":
        this.viewers = message.count;
        this.#tell("viewers", { count: message.count });
        break;
      case "invite":
        this.#grant(message.id, message);
        break;
      case "error":
        // It does not say which invite it refuses; they are answered in order.
        if (message.code === "not-host") this.#grant(this.#wishes.keys().next().value, null);
        this.#tell("refused", { code: message.code, message: message.message });
        break;
    }
  }

  /** In a stream that is a pause: the streamer is still there. */
  #onBye(peer) {
    if (!this.#options.stream) return this.#drop(peer, "left");
    peer.reset();
    this.#tell("pause", { peer });
  }

  /**
   * A page we know keeps its connection under its new peer id; others get a new one. The newcomer calls. `here`: the
   * ids of all who are in the room, where the server told them.
   */
  #meet({ peer: id, instance, name, role, polite, connected = true }, here = null) {
    // Everybody sees the instances, so one stands for its page only when that is not there under its own id.
    const isAway = (peer) => (here ? !here.has(peer.id) : peer.absent);
    const isSame = (peer) => instance && peer.instance === instance && isAway(peer);
    const known = this.#peers.get(id) ?? this.peers.find(isSame);
    if (known) {
      this.#peers.delete(known.id);
      this.#peers.set(id, known);
      known.rebind({ id, name, role, polite, connected });
      this.#tell("change", { peer: known });
      return;
    }
    const peer = new Peer({
      id,
      instance,
      name,
      role,
      polite,
      connected,
      configuration: this.#configuration(),
      credentialUntil: this.#iceUntil,
      local: this.#local,
      info: this.#options.info,
      direction: DIRECTIONS[this.#options.stream],
      send: (message) => this.#signaling.send(message),
      RTCPeerConnection: this.#options.RTCPeerConnection,
    });
    this.#peers.set(id, peer);
    for (const type of ["state", "info", "route", "trouble", "problem"]) {
      peer.addEventListener(type, ({ detail }) => this.#onPeer(peer, type, detail));
    }
    peer.addEventListener("stream", () => this.#tell("stream", { peer, stream: peer.stream }));
    this.#tell("peer", { peer });
    this.#share();
    if (polite && this.live) peer.start();
  }

  #onPeer(peer, type, detail) {
    if (type === "problem") console.warn("relais: negotiation:", detail);
    if (type === "state" && peer.absent) this.#judgeAbsent(peer);
    // Its restart needs the server, and the same change of the network may have cut us off from it.
    if (type === "state" && peer.state === "disconnected") this.#signaling.probe();
    if (type === "trouble") this.#tell("trouble", { peer, ...detail });
    else this.#tell("change", { peer, type });
  }

  /** A connection that nobody can repair any more ends when it breaks. */
  #judgeAbsent(peer) {
    if (this.#waiting && !peer.gone) return;
    if (peer.state === "failed") return this.#drop(peer, "lost");
    if (peer.state !== "disconnected") return;
    setTimeout(() => {
      const isBroken = peer.absent && ["disconnected", "failed"].includes(peer.state);
      if (isBroken && this.#peers.get(peer.id) === peer) this.#drop(peer, "lost");
    }, BROKEN_FOR);
  }

  /** The server gave somebody up; while the media still flows there is no reason to hang up on them. */
  #onLeft(peer, reason) {
    if (reason !== "lost" || peer.state !== "connected") return this.#drop(peer, reason);
    peer.gone = true;
    this.#miss(peer);
  }

  #miss(peer) {
    peer.absent = true;
    this.#presence(peer, false);
  }

  #forgetAbsent() {
    for (const peer of this.peers) if (peer.absent) this.#drop(peer, "lost");
  }

  #presence(peer, connected) {
    peer.connected = connected;
    if (connected) peer.resync();
    this.#tell("change", { peer });
  }

  /** From now on connections use the new credential; those whose relayed address lives on the old one move. */
  #takeIce(ice) {
    if (!ice) return;
    this.#ice = ice;
    this.#iceUntil = ice.ttl > 0 ? Date.now() + ice.ttl * 1_000 : Infinity;
    for (const peer of this.peers) this.#configure(peer);
    clearTimeout(this.#refreshTimer);
    if (!(ice.ttl > 0)) return;
    const next = refreshDelay(ice.ttl);
    this.#refreshTimer = setTimeout(() => this.#signaling.send({ type: "ice" }), next);
    for (const peer of this.peers) peer.renewRelay(Date.now() + next);
  }

  #configure(peer) {
    peer.configure(this.#configuration(), this.#iceUntil);
  }

  #configuration() {
    return rtcConfiguration(this.#ice, this.relay);
  }

  #onFatal({ code, message }) {
    if (FINAL.has(code)) this.#end(code);
    this.#tell("closed", { code, message });
  }

  #end(reason) {
    clearInterval(this.#measureTimer);
    clearTimeout(this.#refreshTimer);
    clearTimeout(this.#absentTimer);
    for (const id of [...this.#wishes.keys()]) this.#grant(id, null);
    for (const peer of this.peers) this.#drop(peer, reason);
  }

  #drop(peer, reason) {
    this.#peers.delete(peer.id);
    peer.close();
    this.#share();
    this.#tell("peer-left", { peer, reason });
  }

  /** What this page can send is divided among all; a streamer says itself what each viewer gets. */
  #share() {
    const limit = this.#options.stream ? this.#videoLimit : videoLimit(this.#peers.size);
    for (const peer of this.peers) peer.limitVideo(limit);
  }

  async #measure() {
    for (const peer of this.peers) {
      await peer.measure().catch(() => {});
      if (this.#peers.get(peer.id) === peer) this.#tell("change", { peer });
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
