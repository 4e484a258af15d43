// The client of the native signaling protocol, version 1 (PROTOCOL.md). No DOM: give it a WebSocket constructor.
//
// Events:
//   state    { state: "connecting" | "joined" | "waiting" | "closed", delay?, attempt? }
//   joined   the server's `joined` message
//   message  every other message of the server that concerns the room
//   fatal    { code, message }: the server said no; there will be no further attempt

const FIRST_DELAY = 500;
/** A server that is restarted is back soon, and relayed calls wait for it; one that stays away is asked less often. */
const SOON_DELAY = 1_500;
const SOON_ATTEMPTS = 10;
const LONGEST_DELAY = 8_000;
/** Our own ping: browsers do not show the WebSocket's, and a dead network closes nothing. */
const PING_EVERY = 15_000;
const ANSWER_WITHIN = 10_000;
/** The same when there is a reason to doubt the network. */
const PROBED_WITHIN = 3_000;
/** Messages kept while the socket is away; a call needs some dozens. */
const QUEUE_LIMIT = 256;
/** Fatal for the connection, not for us: come back with back-off. */
const PASSING = new Set(["join-timeout", "slow-reader", "too-fast"]);

/** Milliseconds to wait before attempt number `attempt` (from 1): exponential, the upper half random. */
export function backOff(attempt, random = Math.random) {
  const ceiling = Math.min(FIRST_DELAY * 2 ** (attempt - 1), attempt > SOON_ATTEMPTS ? LONGEST_DELAY : SOON_DELAY);
  return ceiling / 2 + (random() * ceiling) / 2;
}

export class Signaling extends EventTarget {
  #options;
  #socket = null;
  #state = "closed";
  #session;
  #seq;
  #queue = [];
  #attempt = 0;
  #retryTimer;
  #pingTimer;
  #answerTimer;
  #probing = false;

  /**
   * `{ url, room, stream?, token?, name?, instance, session?, seq?, WebSocket? }`. With `stream` (`streamer` or `viewer`)
   * the room is a stream.
   * `session` and `seq` take up the place of a page that was reloaded.
   * @param {object} options
   */
  constructor(options) {
    super();
    this.#options = { ...options, WebSocket: options.WebSocket ?? globalThis.WebSocket };
    this.#session = options.session ?? null;
    this.#seq = options.seq ?? 0;
  }

  /** What a reloaded page needs to take its place again. */
  get session() {
    return this.#session;
  }

  get seq() {
    return this.#seq;
  }

  get state() {
    return this.#state;
  }

  connect() {
    clearTimeout(this.#retryTimer);
    this.#become("connecting");
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#options.url);
    } catch {
      return this.#retry();
    }
    this.#socket = socket;
    const mine = (handler) => (event) => this.#socket === socket && handler(event);
    socket.addEventListener("open", mine(() => this.#join()));
    socket.addEventListener("message", mine((event) => this.#receive(event.data)));
    socket.addEventListener("close", mine(() => this.#lost()));
    this.#expectAnswer();
  }

  /** Sends a message of the room, or keeps it for when the session has been resumed. */
  send(message) {
    if (this.#state === "joined") {
      this.#write(message);
    } else if (this.#state !== "closed" && this.#queue.length < QUEUE_LIMIT) {
      this.#queue.push(message);
    }
  }

  /** The network came back: do not wait for the end of the delay, nor trust a socket that may be of the old network. */
  retryNow() {
    if (this.#state !== "waiting") return this.probe();
    this.#attempt = 0;
    this.connect();
  }

  /** Something broke that may have taken the socket with it: finds out at once, and connects again if so. */
  probe() {
    if (this.#state !== "joined" || this.#probing) return;
    this.#probing = true;
    this.#ping(PROBED_WITHIN);
  }

  /** Leaves the room for good; our place and our relay credentials end with it. */
  leave() {
    if (this.#state === "joined") this.#write({ type: "leave" });
    this.#session = null;
    this.#end();
  }

  #join() {
    const { room, stream, token, name, instance } = this.#options;
    const place = stream ? { stream: room, role: stream } : { room };
    const message = { type: "join", v: 1, ...place, instance };
    if (token) message.token = token;
    if (name) message.name = name;
    if (this.#session) Object.assign(message, { session: this.#session, seq: this.#seq });
    this.#write(message);
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    this.#answered();
    if (message.type === "joined") this.#joined(message);
    else if (message.type === "error") this.#failed(message);
    else if (message.type !== "pong" && this.#isNew(message)) this.#tell("message", message);
  }

  #joined(message) {
    if (!message.resumed) {
      this.#seq = message.seq;
      // Written for peer ids that no longer exist.
      this.#queue = [];
    }
    this.#session = message.session;
    this.#attempt = 0;
    this.#become("joined");
    this.#pingTimer = setInterval(() => this.#probing || this.#ping(), PING_EVERY);
    this.#tell("joined", message);
    for (const waiting of this.#queue.splice(0)) this.#write(waiting);
  }

  #failed(message) {
    this.#isNew(message);
    if (!message.fatal) return this.#tell("message", message);
    if (PASSING.has(message.code)) return;
    this.#end();
    this.#tell("fatal", { code: message.code, message: message.message });
  }

  /** A resumed session replays what was missed; what we have already is dropped. */
  #isNew(message) {
    if (typeof message.seq !== "number") return true;
    if (message.seq <= this.#seq) return false;
    this.#seq = message.seq;
    return true;
  }

  #ping(within) {
    this.#write({ type: "ping" });
    this.#expectAnswer(within);
  }

  #expectAnswer(within = ANSWER_WITHIN) {
    clearTimeout(this.#answerTimer);
    this.#answerTimer = setTimeout(() => this.#lost(), within);
  }

  #answered() {
    clearTimeout(this.#answerTimer);
    this.#probing = false;
  }

  #lost() {
    this.#drop();
    this.#retry();
  }

  #retry() {
    this.#attempt += 1;
    const delay = backOff(this.#attempt);
    this.#retryTimer = setTimeout(() => this.connect(), delay);
    this.#become("waiting", { delay, attempt: this.#attempt });
  }

  #end() {
    clearTimeout(this.#retryTimer);
    this.#queue = [];
    this.#drop();
    this.#become("closed");
  }

  #drop() {
    clearInterval(this.#pingTimer);
    this.#answered();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #write(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  #become(state, more = {}) {
    this.#state = state;
    this.#tell("state", { state, ...more });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
