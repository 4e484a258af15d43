// Camera, microphone and screen of this page. Needs navigator.mediaDevices, no DOM.
//
// Events:
//   track   { kind, track }: send this track from now on (or none)
//   change  something to show changed: devices, switches, problems

/** Why a device could not be opened, as a stable word: the languages have a sentence for each. */
export function deviceProblem(error) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "missing";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "failed";
  }
}

export class Devices extends EventTarget {
  #media;
  #store;
  #camera = null;
  #microphone = null;
  #screen = null;

  /** `store` remembers the chosen devices: `getItem`, `setItem`. */
  constructor(media = globalThis.navigator?.mediaDevices, store = globalThis.localStorage) {
    super();
    this.#media = media;
    this.#store = store;
    this.stream = new MediaStream();
    this.cameras = [];
    this.microphones = [];
    this.problems = { audio: null, video: null };
    this.wanted = { audio: true, video: true };
    this.#media?.addEventListener("devicechange", () => this.refresh());
  }

  /** The track to send, per kind; the screen goes before the camera. */
  get audio() {
    return this.#microphone;
  }

  get camera() {
    return this.#camera;
  }

  get video() {
    return this.#screen ?? this.#camera;
  }

  get sharing() {
    return this.#screen !== null;
  }

  get canShare() {
    return typeof this.#media?.getDisplayMedia === "function";
  }

  /** What the other page is told. */
  get info() {
    return {
      mic: Boolean(this.#microphone) && this.wanted.audio,
      camera: Boolean(this.#camera) && !this.sharing,
      screen: this.sharing,
    };
  }

  /** Id of the device in use, to mark it in a picker. */
  current(kind) {
    const track = kind === "audio" ? this.#microphone : this.#camera;
    return track?.getSettings().deviceId ?? this.#remembered(kind);
  }

  /** Asks for camera and microphone together; if that fails, for each alone, so that one is enough to join. */
  async open() {
    const wanted = ["audio", "video"].filter((kind) => this.wanted[kind]);
    try {
      const stream = await this.#ask(wanted);
      for (const track of stream.getTracks()) this.#take(track.kind, track);
    } catch (error) {
      if (wanted.length === 1) this.#refuse(wanted[0], error);
      else await this.#openEach(wanted, error);
    }
    await this.refresh();
  }

  async #openEach(kinds, error) {
    for (const kind of kinds) {
      const allowed = await permission(kind);
      // A person who has just said no is not asked again.
      if (deviceProblem(error) === "denied" && allowed === "prompt") this.#refuse(kind, error);
      else await this.#openOne(kind);
    }
  }

  async #openOne(kind) {
    try {
      const stream = await this.#ask([kind]);
      this.#take(kind, stream.getTracks()[0]);
    } catch (error) {
      this.#refuse(kind, error);
    }
  }

  /** Switches camera or microphone on or off. Off means off: the camera's light goes out. */
  async turn(kind, on) {
    this.wanted[kind] = on;
    if (kind === "audio" && this.#microphone) this.#microphone.enabled = on;
    else if (on) await this.#openOne(kind);
    else if (kind === "video") this.#set("video", null);
    this.#tell("change");
  }

  /** Takes another camera or microphone into use. */
  async pick(kind, id) {
    this.#store?.setItem(storeKey(kind), id);
    if (!this.wanted[kind] && kind === "video") return;
    // Telephones cannot open two cameras at once.
    if (kind === "video") this.#camera?.stop();
    await this.#openOne(kind);
    await this.refresh();
  }

  async share() {
    const stream = await this.#media.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: false });
    const [track] = stream.getVideoTracks();
    track.contentHint = "detail";
    track.onended = () => this.unshare();
    this.#screen = track;
    this.#send("video");
  }

  unshare() {
    if (!this.#screen) return;
    this.#screen.onended = null;
    this.#screen.stop();
    this.#screen = null;
    this.#send("video");
  }

  /** Reads the list of devices; labels are there once permission is. */
  async refresh() {
    const all = (await this.#media?.enumerateDevices?.()) ?? [];
    this.cameras = all.filter((device) => device.kind === "videoinput" && device.deviceId);
    this.microphones = all.filter((device) => device.kind === "audioinput" && device.deviceId);
    this.#tell("change");
  }

  stop() {
    this.unshare();
    this.#set("audio", null);
    this.#set("video", null);
  }

  /** The remembered devices, and others if those are not there today: `ideal` would leave the choice to the browser. */
  async #ask(kinds) {
    const constraints = (remembered) =>
      Object.fromEntries(kinds.map((kind) => [kind, this.#constraints(kind, remembered ? this.#remembered(kind) : null)]));
    try {
      return await this.#media.getUserMedia(constraints(true));
    } catch (error) {
      if (error.name !== "OverconstrainedError") throw error;
      return this.#media.getUserMedia(constraints(false));
    }
  }

  #constraints(kind, id) {
    const device = id ? { deviceId: { exact: id } } : {};
    if (kind === "audio") return id ? device : true;
    return { ...device, width: { ideal: 1280 }, height: { ideal: 720 }, ...(id ? {} : { facingMode: "user" }) };
  }

  #remembered(kind) {
    return this.#store?.getItem(storeKey(kind)) ?? null;
  }

  #take(kind, track) {
    this.problems[kind] = null;
    if (kind === "audio") track.enabled = this.wanted.audio;
    track.onended = () => this.#refuse(kind, { name: "NotFoundError" });
    this.#set(kind, track);
  }

  #refuse(kind, error) {
    this.problems[kind] = deviceProblem(error);
    this.wanted[kind] = false;
    this.#set(kind, null);
  }

  #set(kind, track) {
    const old = kind === "audio" ? this.#microphone : this.#camera;
    if (old && old !== track) {
      old.onended = null;
      old.stop();
    }
    if (kind === "audio") this.#microphone = track;
    else this.#camera = track;
    if (kind === "audio" || !this.sharing) this.#send(kind);
    else this.#tell("change");
  }

  #send(kind) {
    const track = this[kind];
    for (const old of this.stream.getTracks()) if (old.kind === kind && old !== track) this.stream.removeTrack(old);
    if (track) this.stream.addTrack(track);
    this.#tell("track", { kind, track });
    this.#tell("change");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function storeKey(kind) {
  return `relais.device.${kind}`;
}

/** `granted`, `denied` or `prompt`; `prompt` also where the browser does not say. */
async function permission(kind) {
  try {
    const name = kind === "audio" ? "microphone" : "camera";
    return (await navigator.permissions.query({ name })).state;
  } catch {
    return "prompt";
  }
}
