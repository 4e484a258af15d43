// A small client of Socket.IO (protocol 5) over Engine.IO (protocol 4) by WebSocket: one namespace, events and
// acknowledgements of JSON, connecting again with back-off, and connection state recovery. PROTOCOL.md names what it meets.
//
// Events:
//   connect      { id, recovered }: in; `recovered`: the same socket as before, with what was missed
//   disconnect   { reason }: out; `connecting` and `connect` follow by themselves
//   connecting   { attempt, delay }: the next attempt comes in so many milliseconds
//   refused      { message, code }: the server said no, and there will be no further attempt
//   event        { name, values }: what the server emitted

import { backOff } from "../relais/signaling.js";

/** Beyond the server's own interval: how late its ping may be (it says so when the connection opens). */
const OPEN_WITHIN = 10_000;
/** Events kept while the connection is away; a call needs some dozens. */
const QUEUE_LIMIT = 128;

/** Engine.IO packets, by their first character. */
const ENGINE = { open: "0", close: "1", ping: "2", pong: "3", message: "4" };
/** Socket.IO packets, by the character behind that. */
const PACKET = { connect: "0", disconnect: "1", event: "2", ack: "3", refused: "4" };

export class SocketIo extends EventTarget {
  #options;
  #socket = null;
  #queue = [];
  #attempt = 0;
  #retryTimer;
  #silenceTimer;
  #silence = OPEN_WITHIN;
  #pid = null;
  #offset = null;

  /**
   * `{ url, auth?, namespace?, WebSocket? }`: `url` is the origin (`https://…`), `auth` what a CONNECT carries.
   * @param {object} options
   */
  constructor(options) {
    super();
    this.#options = { namespace: "/", auth: {}, WebSocket: globalThis.WebSocket, ...options };
    /** @type {string | null} The public id of this socket; it is kept while away, since it may be recovered. */
    this.id = null;
    this.connected = false;
  }

  connect() {
    clearTimeout(this.#retryTimer);
    const { url, WebSocket } = this.#options;
    let socket;
    try {
      socket = new WebSocket(`${url.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket`);
    } catch {
      return this.#retry();
    }
    this.#socket = socket;
    const mine = (handler) => (event) => this.#socket === socket && handler(event);
    socket.addEventListener("message", mine((event) => this.#receive(event.data)));
    socket.addEventListener("close", mine(() => this.#lost("closed")));
    this.#silence = OPEN_WITHIN;
    this.#listen();
  }

  /** Sends an event, or keeps it until the connection is back. */
  emit(name, ...values) {
    const packet = PACKET.event + this.#prefix() + JSON.stringify([name, ...values]);
    if (this.connected) this.#send(packet);
    else if (this.#queue.length < QUEUE_LIMIT) this.#queue.push(packet);
  }

  /** The network came back: do not wait for the end of the delay. */
  retryNow() {
    if (this.#socket) return;
    this.#attempt = 0;
    this.connect();
  }

  /** Leaves for good; the id ends with it. */
  close() {
    if (this.connected) this.#send(PACKET.disconnect + this.#prefix());
    this.#end();
  }

  #prefix() {
    const { namespace } = this.#options;
    return namespace === "/" ? "" : `${namespace},`;
  }

  #receive(data) {
    if (typeof data !== "string") return;
    this.#listen();
    switch (data[0]) {
      case ENGINE.open:
        return this.#open(data.slice(1));
      case ENGINE.ping:
        return this.#socket.send(ENGINE.pong);
      case ENGINE.close:
        return this.#lost("closed by the server");
      case ENGINE.message:
        return this.#packet(data.slice(1));
    }
  }

  #open(text) {
    const { pingInterval = 25_000, pingTimeout = 20_000 } = parse(text) ?? {};
    this.#silence = pingInterval + pingTimeout;
    const recovery = this.#pid && this.#offset ? { pid: this.#pid, offset: this.#offset } : {};
    this.#send(PACKET.connect + this.#prefix() + JSON.stringify({ ...this.#options.auth, ...recovery }));
  }

  #packet(packet) {
    const prefix = this.#prefix();
    if (!packet.startsWith(prefix, 1)) return;
    const text = packet.slice(1 + prefix.length);
    switch (packet[0]) {
      case PACKET.connect:
        return this.#joined(parse(text) ?? {});
      case PACKET.event:
        return this.#event(text);
      case PACKET.refused:
        return this.#refused(parse(text) ?? {});
      case PACKET.disconnect:
        return this.#lost("disconnected by the server");
    }
  }

  #joined({ sid, pid = null }) {
    const recovered = pid !== null && pid === this.#pid && sid === this.id;
    if (!recovered) this.#offset = null;
    Object.assign(this, { id: sid, connected: true });
    this.#pid = pid;
    this.#attempt = 0;
    this.#tell("connect", { id: sid, recovered });
    for (const waiting of this.#queue.splice(0)) this.#send(waiting);
  }

  /** Where the server recovers sockets, the last value of an event is the place to go on from. */
  #event(text) {
    const [, id, json] = /^(\d*)(.*)$/s.exec(text);
    const values = parse(json);
    if (!Array.isArray(values) || typeof values[0] !== "string") return;
    const [name, ...rest] = values;
    if (this.#pid && typeof rest.at(-1) === "string") this.#offset = rest.pop();
    if (id) this.#send(PACKET.ack + this.#prefix() + id + "[]");
    this.#tell("event", { name, values: rest });
  }

  #refused({ message = "", data = {} }) {
    this.#end();
    this.#tell("refused", { code: data?.code ?? "refused", message: data?.message ?? message });
  }

  /** A dead network closes nothing: the server's pings have to come. */
  #listen() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#lost("silent"), this.#silence);
  }

  #lost(reason) {
    const was = this.connected;
    this.#drop();
    if (was) this.#tell("disconnect", { reason });
    this.#retry();
  }

  #retry() {
    this.#attempt += 1;
    const delay = backOff(this.#attempt);
    this.#retryTimer = setTimeout(() => this.connect(), delay);
    this.#tell("connecting", { attempt: this.#attempt, delay });
  }

  #end() {
    clearTimeout(this.#retryTimer);
    this.#queue = [];
    this.#drop();
  }

  #drop() {
    clearTimeout(this.#silenceTimer);
    const socket = this.#socket;
    this.#socket = null;
    this.connected = false;
    socket?.close();
  }

  #send(packet) {
    if (this.#socket?.readyState === 1) this.#socket.send(ENGINE.message + packet);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
