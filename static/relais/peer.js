// One media connection to one signaling peer: perfect negotiation (W3C webrtc-pc), ICE restart, repair. No DOM.
//
// Events:
//   stream   a new MediaStream of the other side
//   state    the connection state changed (`peer.state`)
//   info     the other page told about itself (`peer.info`: what it gave to `setInfo`, and its `route`)
//   route    the way the call takes changed (`peer.route`, as judgeRoute gives it)
//   trouble  { code, url }: an ICE server could not be used (RTCPeerConnectionIceErrorEvent)
//   problem  an Error of the negotiation

import { limitSender } from "./media.js";
import { figures, judgeRoute, readMedia, readRoute } from "./stats.js";

/** A connection that says `disconnected` often comes back by itself; after this long it gets an ICE restart. */
const DISCONNECTED_FOR = 4_000;
/** The impolite side lets the polite one restart first, so that the two restarts do not collide. */
const IMPOLITE_PATIENCE = 1_000;
/** Between restarts that led to nothing: doubled each time up to the longest. */
const FIRST_RESTART_GAP = 8_000;
const LONGEST_RESTART_GAP = 30_000;

/** Somebody else in the room, and the connection to them. */
export class Peer extends EventTarget {
  #options;
  #pc = null;
  #channel = null;
  #senders = {};
  #remoteOrigin = null;
  #makingOffer = false;
  #ignoringOffer = false;
  #settingAnswer = false;
  #work = Promise.resolve();
  #restartTimer;
  #restarts = 0;
  #lastRoute = null;
  #lastMedia = null;
  #videoLimit = null;
  #relayUntil = Infinity;

  /**
   * `{ id, instance, name, role, polite, connected?, configuration, credentialUntil, local, info, send,
   * direction?, RTCPeerConnection? }`; `direction` is that of our media, `local` is `{ audio, video, stream }` and is read again whenever it is needed,
   * `credentialUntil` is when the configuration's credential ends (milliseconds of `Date.now`), `send` takes a
   * signaling message.
   * @param {object} options
   */
  constructor(options) {
    super();
    this.#options = { ...options, RTCPeerConnection: options.RTCPeerConnection ?? globalThis.RTCPeerConnection };
    /** @type {string} Given by the server. */
    this.id = options.id;
    /** @type {string | undefined} */
    this.name = options.name;
    /** @type {"host" | "member" | "streamer" | "viewer"} */
    this.role = options.role;
    this.instance = options.instance;
    this.polite = options.polite;
    /** Has the other page its socket to the server? */
    this.connected = options.connected ?? true;
    /** Does the server no longer know it? The media may still flow. */
    this.absent = false;
    /** Did the server say that it will not come back under this id? */
    this.gone = false;
    /** @type {object} What the other page says of itself. */
    this.info = {};
    /** @type {{kind: "direct" | "stun" | "relay", transports: string[]} | null} */
    this.route = null;
    /** @type {number | null} Seconds, and bits per second of both directions; `null` until measured. */
    this.roundTrip = null;
    this.bitRate = null;
    /** @type {object | null} What `figures` of stats.js tells. */
    this.figures = null;
    /** @type {MediaStream} What the other side sends; it may still be empty. */
    this.stream = null;
    this.#open();
  }

  /** `new`, `connecting`, `connected`, `disconnected`, `failed` or `closed`. */
  get state() {
    return this.#pc.connectionState;
  }

  /** @type {RTCPeerConnection} Another one after `renew`, or when the other page made a new one. */
  get connection() {
    return this.#pc;
  }

  get negotiated() {
    return this.#pc.remoteDescription !== null;
  }

  /** Begins the call; the newcomer does, the other side answers. */
  start() {
    for (const kind of ["audio", "video"]) {
      const { local, direction } = this.#options;
      const transceiver = this.#pc.addTransceiver(local[kind] ?? kind, { direction, streams: [local.stream] });
      this.#senders[kind] = transceiver.sender;
    }
    this.#openChannel();
  }

  /** A message of the other side: `offer`, `answer` or `candidate`. Handled one after the other. */
  receive(message) {
    return this.#queue(() =>
      message.type === "candidate" ? this.#onCandidate(message.candidate) : this.#onDescription(message.description),
    );
  }

  /** Sends another track of `kind` (or none) from now on, with no new negotiation. */
  async setTrack(kind, track) {
    await this.#senders[kind]?.replaceTrack(track);
    if (kind === "video") await this.#limit();
  }

  /** How much picture to send at most, as `videoLimit` of media.js gives it; `null`: what the way carries. */
  async limitVideo(limit) {
    if (JSON.stringify(limit) === JSON.stringify(this.#videoLimit)) return;
    this.#videoLimit = limit;
    await this.#limit();
  }

  /** New ICE servers or another policy; they count from the next gathering, that is from the next restart. */
  configure(configuration, credentialUntil) {
    Object.assign(this.#options, { configuration, credentialUntil });
    this.#pc.setConfiguration(configuration);
  }

  /** Tells the other page about us. */
  setInfo(info) {
    this.#options.info = info;
    this.#sendInfo();
  }

  /** The same page under a new peer id (the server was restarted): the connection is kept. */
  rebind({ id, name, role, polite, connected = true }) {
    const moved = id !== this.id;
    Object.assign(this, { id, name, role, polite, connected, absent: false, gone: false });
    if (moved) this.#queue(() => this.#repair());
  }

  /** A server that was restarted forgot our allocations: is the way through it, on either side, or not working? */
  get #needsRepair() {
    return this.state !== "connected" || this.route === null || this.route.kind === "relay";
  }

  /** After signaling came back: repeats an offer that may have been lost, restarts what does not work. */
  resync() {
    const pending = this.#pc.signalingState === "have-local-offer" && this.#pc.localDescription;
    if (pending) this.#send({ type: pending.type, description: pending });
    else if (this.negotiated && ["failed", "disconnected"].includes(this.state)) this.restart();
  }

  /** Gathers and checks again, at once or after the offer that is open; repeated until it leads to something. */
  restart() {
    clearTimeout(this.#restartTimer);
    if (this.#pc.signalingState === "closed") return;
    this.#pc.restartIce();
    this.#relayUntil = this.#options.credentialUntil;
    const gap = Math.min(FIRST_RESTART_GAP * 2 ** this.#restarts, LONGEST_RESTART_GAP);
    if (this.state !== "connected") this.#restarts += 1;
    this.#restartTimer = setTimeout(() => this.state !== "connected" && this.restart(), gap);
  }

  /**
   * Moves to a new relayed address if ours stands on a credential that ends before `moment`: a relay may end it with
   * that. No other way through the network needs it.
   */
  async renewRelay(moment) {
    if (!this.negotiated || this.state !== "connected" || this.#relayUntil >= moment) return;
    const mine = readRoute(await this.#pc.getStats());
    if (mine?.local === "relay" && this.state === "connected") this.restart();
  }

  /**
   * Begins again with a new connection. An ICE restart is not enough to leave a working way: Chromium (156) goes on
   * using the old pair for as long as it has the higher priority, even when the policy has become `relay`.
   */
  renew() {
    clearTimeout(this.#restartTimer);
    this.#replace();
    this.start();
    this.#tell("state");
  }

  /** Ends the connection, and waits for a call on a new one. */
  reset() {
    clearTimeout(this.#restartTimer);
    this.#replace();
    this.info = {};
    this.#tell("state");
  }

  /** Reads the statistics; call it every second or two. */
  async measure() {
    const report = await this.#pc.getStats();
    const mine = readRoute(report);
    const media = readMedia(report);
    const before = this.#lastRoute;
    this.figures = figures(this.#lastMedia && { route: before, media: this.#lastMedia }, { route: mine, media });
    this.#lastRoute = mine;
    this.#lastMedia = media;
    this.bitRate = this.figures.in === null ? null : this.figures.in + this.figures.out;
    this.roundTrip = mine?.roundTrip ?? null;
    if (mine && (mine.local !== before?.local || mine.relay !== before?.relay)) this.#sendInfo();
    this.#judge();
  }

  close() {
    clearTimeout(this.#restartTimer);
    this.#forget();
    this.#tell("state");
  }

  #open() {
    const pc = new this.#options.RTCPeerConnection(this.#options.configuration);
    this.#pc = pc;
    this.#relayUntil = this.#options.credentialUntil;
    this.#senders = {};
    this.#channel = null;
    this.#remoteOrigin = null;
    this.stream = new MediaStream();
    pc.onnegotiationneeded = () => this.#negotiate();
    // Pages of other kinds, which tell no instance, often cannot take the end of candidates.
    pc.onicecandidate = ({ candidate }) => (candidate || this.instance) && this.#send({ type: "candidate", candidate });
    pc.onicecandidateerror = ({ errorCode, url }) => this.#tell("trouble", { code: errorCode, url });
    pc.ontrack = ({ track }) => this.#addRemote(track);
    pc.onconnectionstatechange = () => this.#onState();
    pc.oniceconnectionstatechange = () => this.#onIceState();
  }

  #replace() {
    this.#forget();
    this.#lastRoute = null;
    this.#lastMedia = null;
    this.route = null;
    this.#open();
  }

  #forget() {
    const pc = this.#pc;
    for (const name of ["negotiationneeded", "icecandidate", "icecandidateerror", "track", "connectionstatechange", "iceconnectionstatechange"]) {
      pc[`on${name}`] = null;
    }
    pc.close();
  }

  async #negotiate() {
    const pc = this.#pc;
    try {
      this.#makingOffer = true;
      await pc.setLocalDescription();
      this.#send({ type: pc.localDescription.type, description: pc.localDescription });
    } catch (error) {
      if (pc.signalingState !== "closed") this.#tell("problem", error);
    } finally {
      this.#makingOffer = false;
    }
  }

  /** No answer will come to an offer under the old ids: it is withdrawn. The newcomer then calls again if needed. */
  async #repair() {
    const pc = this.#pc;
    const open = pc.signalingState === "have-local-offer";
    if (open) await pc.setLocalDescription({ type: "rollback" });
    const isIdle = !open && pc.getTransceivers().length === 0;
    if (!this.polite || isIdle || !this.#needsRepair) return;
    this.restart();
    if (open && !this.#makingOffer) await this.#negotiate();
  }

  async #onDescription(description) {
    const offer = description.type === "offer";
    const ready = !this.#makingOffer && (this.#pc.signalingState === "stable" || this.#settingAnswer);
    this.#ignoringOffer = !this.polite && offer && !ready;
    if (this.#ignoringOffer) return;
    // An answer to an offer that has been answered or withdrawn meanwhile.
    if (!offer && this.#pc.signalingState !== "have-local-offer") return;
    if (this.#isForeign(description)) {
      this.#replace();
      // An answer of a new connection is of no use to the old one: call it.
      if (!offer) return this.start();
    }
    const pc = this.#pc;
    this.#settingAnswer = !offer;
    try {
      await pc.setRemoteDescription(description);
    } finally {
      this.#settingAnswer = false;
    }
    this.#remoteOrigin = sdpOrigin(description.sdp);
    if (!offer) return;
    await this.#adopt();
    await pc.setLocalDescription();
    this.#send({ type: pc.localDescription.type, description: pc.localDescription });
  }

  /** Does it come from another RTCPeerConnection than before (its page dropped the old one)? */
  #isForeign(description) {
    return this.#remoteOrigin !== null && this.#remoteOrigin !== sdpOrigin(description.sdp);
  }

  /** A sender takes limits once it is negotiated, and loses them with its connection. */
  async #limit() {
    if (this.state === "connected") await limitSender(this.#senders.video, this.#videoLimit);
  }

  /** Sends our tracks on the media sections of the offer. Sections that we had only planned ourselves are dropped. */
  async #adopt() {
    const { local } = this.#options;
    for (const kind of ["audio", "video"]) {
      const all = this.#pc.getTransceivers().filter((one) => one.receiver.track.kind === kind && !one.stopped);
      const agreed = all.find((one) => one.mid !== null && one.currentDirection !== "stopped");
      if (!agreed) continue;
      for (const planned of all) if (planned.mid === null) planned.stop();
      if (this.#senders[kind] === agreed.sender) continue;
      this.#senders[kind] = agreed.sender;
      agreed.direction = this.#options.direction ?? "sendrecv";
      agreed.sender.setStreams?.(local.stream);
      await agreed.sender.replaceTrack(local[kind]);
    }
    if (!this.#channel) this.#openChannel();
  }

  async #onCandidate(candidate) {
    try {
      await this.#pc.addIceCandidate(candidate ?? undefined);
    } catch (error) {
      // Candidates of an offer we ignored, or of a connection that is gone, are of no use to anybody.
      if (!this.#ignoringOffer && this.#pc.remoteDescription) throw error;
    }
  }

  #addRemote(track) {
    for (const old of this.stream.getTracks()) if (old.kind === track.kind) this.stream.removeTrack(old);
    this.stream.addTrack(track);
    this.#tell("stream", this.stream);
  }

  #onState() {
    if (this.state === "connected") {
      clearTimeout(this.#restartTimer);
      this.#restarts = 0;
      this.measure().catch(() => {});
      this.#limit();
    } else if (this.state === "failed") {
      this.#restartIn(0);
    }
    this.#tell("state");
  }

  #onIceState() {
    if (this.#pc.iceConnectionState === "disconnected") this.#restartIn(DISCONNECTED_FOR);
    this.#tell("state");
  }

  #restartIn(delay) {
    clearTimeout(this.#restartTimer);
    const patience = this.polite ? 0 : IMPOLITE_PATIENCE;
    this.#restartTimer = setTimeout(() => this.state !== "connected" && this.restart(), delay + patience);
  }

  /** Both pages open the same channel by number, for what the other one should see: microphone, camera, route. */
  #openChannel() {
    const channel = this.#pc.createDataChannel("relais", { negotiated: true, id: 0 });
    this.#channel = channel;
    channel.onopen = () => this.#sendInfo();
    channel.onmessage = ({ data }) => this.#onInfo(data);
  }

  #sendInfo() {
    if (this.#channel?.readyState !== "open") return;
    const route = this.#lastRoute && { local: this.#lastRoute.local, relay: this.#lastRoute.relay };
    this.#channel.send(JSON.stringify({ ...this.#options.info, route }));
  }

  #onInfo(data) {
    let info;
    try {
      info = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof info !== "object" || info === null) return;
    this.info = info;
    this.#tell("info", info);
    this.#judge();
  }

  #judge() {
    const before = JSON.stringify(this.route);
    this.route = judgeRoute(this.#lastRoute, this.info.route);
    if (JSON.stringify(this.route) !== before) this.#tell("route", this.route);
  }

  #queue(work) {
    this.#work = this.#work.then(work).catch((error) => this.#tell("problem", error));
    return this.#work;
  }

  #send(message) {
    this.#options.send({ ...message, to: this.id });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The session id of an SDP's `o=` line: constant for the life of a connection object (RFC 8866, RFC 9429). */
function sdpOrigin(sdp) {
  return /^o=\S+ (\S+)/m.exec(sdp)?.[1] ?? null;
}
