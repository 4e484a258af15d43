// Calls between two who know each other's id, over the main namespace of Socket.IO (PROTOCOL.md, “By id”). No DOM.
//
// Events:
//   id      the own id is there, or another one than before, or away (`id` is null until the first)
//   server  { state: "connecting" | "connected" | "waiting" }
//   refused { code, message }: the server does not let this page in
//   call    the state of the call changed: `state`, `other`, `peer`
//   ended   { reason }: why there is no call any more: a stable word
//   change  { peer, type }, stream { peer }: as a room tells them

import { rtcConfiguration } from "../relais/ice.js";
import { Peer } from "../relais/peer.js";
import { SocketIo } from "./socketio.js";

const MEASURE_EVERY = 1_500;
/** Nobody rings longer than this. */
const RING_FOR = 60_000;
/** A call that has been broken for so long is over: nobody comes back under another id by then. */
const BROKEN_FOR = 30_000;
/** Candidates that come before the person has answered. */
const HELD = 128;

export class DirectCalls extends EventTarget {
  #options;
  #socket;
  #ice = null;
  #held = [];
  #origin = null;
  #ringTimer;
  #brokenTimer;
  #measureTimer;
  #refreshTimer;

  /** `{ server, token?, media, info, relay?, log? }`; `media` is read anew for each call. */
  constructor(options) {
    super();
    this.#options = { relay: null, info: {}, ...options };
    /** @type {"idle" | "calling" | "ringing" | "talking"} */
    this.state = "idle";
    /** @type {string | null} The id of the other side. */
    this.other = null;
    /** @type {Peer | null} */
    this.peer = null;
    const { server, token } = options;
    this.#socket = new SocketIo({ url: server, auth: token ? { token } : {} });
    const on = (type, handler) => this.#socket.addEventListener(type, ({ detail }) => handler(detail));
    on("connect", (detail) => this.#onConnect(detail));
    on("disconnect", () => this.#tell("server", { state: "waiting" }));
    on("connecting", () => this.#tell("server", { state: "waiting" }));
    on("refused", (detail) => this.#tell("refused", detail));
    on("event", ({ name, values }) => this.#onEvent(name, values[0] ?? {}));
  }

  get id() {
    return this.#socket.id;
  }

  get connected() {
    return this.#socket.connected;
  }

  connect() {
    this.#tell("server", { state: "connecting" });
    this.#socket.connect();
  }

  retry() {
    this.#socket.retryNow();
  }

  /** Calls an id; `ended` tells if nobody answers. */
  async call(id) {
    // They were faster: who calls somebody wants to talk to them.
    if (this.state === "ringing" && this.other === id) return this.accept();
    if (this.state !== "idle") return;
    this.#become("calling", id);
    await this.#askIce();
    if (this.state !== "calling" || this.other !== id) return;
    this.#open(false);
    this.peer.start();
    this.#ringFor("no-answer");
  }

  /** Takes the call that rings. */
  async accept() {
    if (this.state !== "ringing") return;
    const { other } = this;
    clearTimeout(this.#ringTimer);
    await this.#askIce();
    if (this.state !== "ringing" || this.other !== other) return;
    this.#open(true);
    this.#become("talking", other);
    for (const message of this.#held.splice(0)) this.#receive(message);
  }

  /** Declines what rings, takes back a call, or hangs up. */
  end(reason = "self") {
    if (this.state === "idle") return;
    this.#socket.emit("bye", { to: this.other });
    this.#over(reason);
  }

  /** The page goes away. */
  leave() {
    this.end();
    this.#socket.close();
  }

  async setTrack(kind, track) {
    await this.peer?.setTrack(kind, track);
  }

  /** What the other page finds as `info` of this one; with it goes our id, which a restarted server changes. */
  setInfo(info) {
    this.#options.info = info;
    this.peer?.setInfo({ ...info, id: this.id });
  }

  #onConnect({ id, recovered }) {
    this.#tell("server", { state: "connected" });
    this.#tell("id");
    if (recovered) this.peer?.resync();
    else this.peer?.setInfo({ ...this.#options.info, id });
  }

  #onEvent(name, body) {
    const { from } = body;
    const known = from === this.other;
    if (name === "offer") this.#onOffer(from, body.offer);
    else if (name === "answer" && known) this.#onAnswer(body.answer);
    else if (name === "candidate" && known) this.#hold({ type: "candidate", candidate: body.candidate });
    else if (name === "bye" && known) this.#over({ calling: "declined", ringing: "missed" }[this.state] ?? "hung-up");
    else if (name === "error") this.#onError(body);
  }

  #onOffer(from, description) {
    const message = { type: "offer", description };
    if (from === this.other) return this.#onAgain(message);
    if (this.state === "idle") {
      this.#held = [message];
      this.#become("ringing", from);
      return this.#ringFor("missed");
    }
    // The same page under the id that it got from a restarted server.
    if (this.state === "talking" && this.#origin !== null && this.#origin === originOf(description)) {
      this.#rebind(from);
      return this.#receive(message);
    }
    this.#socket.emit("bye", { to: from });
  }

  /** Another offer of the one who is there already. */
  #onAgain(message) {
    if (this.state === "ringing") {
      this.#held = [message];
    } else if (this.state === "talking") {
      this.#receive(message);
    } else if (this.id < this.other) {
      // Both called at once, so both want to talk: one of the two calls is taken.
      this.#close();
      this.#held = [message];
      this.state = "ringing";
      this.accept();
    }
  }

  #onAnswer(description) {
    if (this.state !== "calling" && this.state !== "talking") return;
    clearTimeout(this.#ringTimer);
    this.#receive({ type: "answer", description });
    if (this.state === "talking") return;
    this.#become("talking", this.other);
    for (const message of this.#held.splice(0)) this.#receive(message);
  }

  /** Candidates wait for the person, or for the answer. */
  #hold(message) {
    if (this.state === "talking") this.#receive(message);
    else if (this.#held.length < HELD) this.#held.push(message);
  }

  #onError({ code, message }) {
    this.#tell("problem", { code, message });
    if (code !== "unknown-peer") return;
    if (this.state === "calling") this.#over("nobody");
    else if (this.state === "talking" && this.peer.state !== "connected") this.#over("lost");
  }

  #receive(message) {
    if (message.description) this.#origin = originOf(message.description);
    this.peer?.receive(message);
  }

  #open(polite) {
    this.#origin = null;
    const { media, info, relay } = this.#options;
    const peer = new Peer({
      id: this.other,
      name: this.other,
      role: "member",
      polite,
      configuration: rtcConfiguration(this.#ice, relay),
      credentialUntil: Infinity,
      local: media,
      info: { ...info, id: this.id },
      send: (message) => this.#send(message),
    });
    this.peer = peer;
    peer.addEventListener("stream", () => this.#tell("stream", { peer }));
    for (const type of ["state", "info", "route", "trouble", "problem"]) {
      peer.addEventListener(type, ({ detail }) => this.peer === peer && this.#onPeer(type, detail));
    }
    this.#tell("change", { peer, type: "new" });
    this.#measureTimer = setInterval(() => this.#measure(), MEASURE_EVERY);
  }

  #onPeer(type, detail) {
    if (type === "problem") console.warn("relais: negotiation:", detail);
    if (type === "info" && typeof detail.id === "string" && detail.id !== this.other) this.#rebind(detail.id);
    if (type === "state") this.#watch();
    this.#tell("change", { peer: this.peer, type, detail });
  }

  #watch() {
    const broken = ["disconnected", "failed"].includes(this.peer.state);
    if (!broken) clearTimeout(this.#brokenTimer);
    if (!broken || this.#brokenTimer) {
      if (!broken) this.#brokenTimer = null;
      return;
    }
    this.#brokenTimer = setTimeout(() => this.#over("lost"), BROKEN_FOR);
  }

  #rebind(id) {
    const { role, polite } = this.peer;
    this.other = id;
    this.peer.rebind({ id, name: id, role, polite });
    this.#tell("call");
  }

  async #measure() {
    const { peer } = this;
    await peer?.measure().catch(() => {});
    if (peer && this.peer === peer) this.#tell("change", { peer });
  }

  /** Pages of others know no empty candidate. */
  #send({ type, description, candidate, to }) {
    if (type === "candidate" && candidate) this.#socket.emit("candidate", { candidate, to });
    else if (type !== "candidate") this.#socket.emit(type, { [type]: description, to });
  }

  /** Fresh credentials for each call, and again while it lasts; without them a direct way may still be found. */
  async #askIce() {
    clearTimeout(this.#refreshTimer);
    const { server, token } = this.#options;
    try {
      const answer = await fetch(`${server}/api/ice`, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
      if (answer.ok) this.#ice = await answer.json();
    } catch {
      // The server is out of reach; what it said last may still do.
    }
    this.peer?.configure(rtcConfiguration(this.#ice, this.#options.relay), Infinity);
    const next = Math.min((this.#ice?.ttl ?? 3_600) * 750, 86_400_000);
    this.#refreshTimer = setTimeout(() => this.#askIce(), next);
  }

  #ringFor(reason) {
    clearTimeout(this.#ringTimer);
    this.#ringTimer = setTimeout(() => this.end(reason), RING_FOR);
  }

  #over(reason) {
    clearTimeout(this.#ringTimer);
    clearTimeout(this.#refreshTimer);
    const { other } = this;
    this.#close();
    this.#held = [];
    this.state = "idle";
    this.other = null;
    this.#tell("ended", { reason, other });
  }

  #close() {
    clearInterval(this.#measureTimer);
    clearTimeout(this.#brokenTimer);
    this.#brokenTimer = null;
    const { peer } = this;
    this.peer = null;
    peer?.close();
  }

  #become(state, other) {
    Object.assign(this, { state, other });
    this.#tell("call");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The session id of an SDP: constant for the life of a connection (RFC 8866 `o=`). */
function originOf(description) {
  return /^o=\S+ (\S+)/m.exec(description?.sdp ?? "")?.[1] ?? null;
}
