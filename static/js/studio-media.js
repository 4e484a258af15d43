// What a stream sends: camera or screen, and the microphone with the sound of the screen where the browser gives it.
//
// Events:
//   track   { kind, track }: send this track from now on (or none)
//   change  something to show changed

import { Devices } from "./devices.js";

export class StudioMedia extends EventTarget {
  #screen = null;
  #screenSound = null;
  #mixer = null;
  #sent = { audio: null, video: null };

  constructor(devices = new Devices()) {
    super();
    this.devices = devices;
    devices.addEventListener("change", () => this.dispatchEvent(new CustomEvent("change")));
    devices.addEventListener("track", () => this.#update());
  }

  /** What connections read: the track of each kind, and the stream that these belong to. */
  get audio() {
    return this.#sent.audio;
  }

  get video() {
    return this.#sent.video;
  }

  get stream() {
    return this.devices.stream;
  }

  get sharing() {
    return this.#screen !== null;
  }

  /** Does the sound of the screen go with it? */
  get hasScreenSound() {
    return this.#screenSound !== null;
  }

  get canShare() {
    return this.devices.canShare;
  }

  /** What the pages of the viewers are told. */
  get info() {
    return { ...this.devices.info, camera: Boolean(this.devices.camera) && !this.sharing, screen: this.sharing };
  }

  async share() {
    const wanted = { video: { frameRate: { ideal: 30, max: 30 } }, audio: true, systemAudio: "include" };
    const screen = await navigator.mediaDevices.getDisplayMedia(wanted);
    this.#end();
    [this.#screen] = screen.getVideoTracks();
    this.#screenSound = screen.getAudioTracks()[0] ?? null;
    this.#screen.contentHint = "detail";
    // The browser's own button ends it, too.
    this.#screen.onended = () => this.unshare();
    this.#update();
  }

  unshare() {
    if (!this.#screen) return;
    this.#end();
    this.#update();
  }

  stop() {
    this.#end();
    this.devices.stop();
    this.#update();
  }

  #end() {
    for (const track of [this.#screen, this.#screenSound]) {
      if (!track) continue;
      track.onended = null;
      track.stop();
    }
    this.#screen = null;
    this.#screenSound = null;
  }

  #update() {
    this.#send("video", this.#screen ?? this.devices.camera);
    this.#send("audio", this.#mix());
    this.dispatchEvent(new CustomEvent("change"));
  }

  #send(kind, track) {
    if (this.#sent[kind] === track) return;
    this.#sent[kind] = track;
    this.dispatchEvent(new CustomEvent("track", { detail: { kind, track } }));
  }

  /** One track of both sounds; a connection sends one. */
  #mix() {
    const tracks = [this.devices.audio, this.#screenSound].filter(Boolean);
    const isSame = this.#mixer?.tracks.length === tracks.length && tracks.every((track) => this.#mixer.tracks.includes(track));
    if (isSame) return this.#mixer.track;
    this.#mixer?.context.close();
    this.#mixer = null;
    if (tracks.length < 2) return tracks[0] ?? null;
    const context = new AudioContext();
    const both = context.createMediaStreamDestination();
    for (const track of tracks) context.createMediaStreamSource(new MediaStream([track])).connect(both);
    this.#mixer = { tracks, context, track: both.stream.getAudioTracks()[0] };
    return this.#mixer.track;
  }
}

/** What to send to each viewer at most, in bits per second. */
export const QUALITIES = {
  auto: null,
  high: { maxBitrate: 4_000_000, scaleDown: 1 },
  medium: { maxBitrate: 1_500_000, scaleDown: 1 },
  low: { maxBitrate: 600_000, scaleDown: 1.5 },
  least: { maxBitrate: 200_000, scaleDown: 3 },
};

/** Bits per second of pictures that a studio sends to all viewers together unless it is told otherwise. */
const BUDGET = 12_000_000;
/** Fewer are not limited. */
const FEW = 5;

/** The limit for one of so many viewers: each gets an encoding of their own. */
export function limitFor(quality, viewers) {
  if (quality !== "auto") return QUALITIES[quality] ?? null;
  if (viewers < FEW) return null;
  return { maxBitrate: Math.round(BUDGET / viewers), scaleDown: viewers < 2 * FEW ? 1 : 1.5 };
}
