// The picture and the sound of a stream: begins by itself without sound, as browsers allow, and has sound at a tap.

import { label, say } from "./i18n.js";
import { byId } from "./views.js";

export class Player {
  #video;
  #wanted = true;
  #refused = false;
  #shown = false;
  /** Somebody has chosen whether there is to be sound: no need to offer it over the picture. */
  #chosen = false;

  constructor(video) {
    this.#video = video;
  }

  /** Is there something to look at or to hear? */
  set shown(shown) {
    this.#shown = shown;
    this.#show();
  }

  async play(stream) {
    if (this.#video.srcObject !== stream) {
      this.#video.srcObject = stream;
      this.#markFirstFrame();
    }
    if (this.#wanted) await this.#start();
  }

  stop() {
    this.#video.srcObject = null;
    this.#shown = false;
    this.#show();
  }

  wire() {
    byId("sound").addEventListener("click", () => this.#choose(true));
    byId("mute").addEventListener("click", () => this.#choose(this.#video.muted));
    byId("play").addEventListener("click", () => this.#toggle());
    const canFill = document.fullscreenEnabled || this.#video.webkitEnterFullscreen;
    byId("fullscreen").hidden = !canFill;
    byId("fullscreen").addEventListener("click", () => this.#fill());
    addEventListener("keydown", (event) => this.#onKey(event));
    for (const type of ["play", "pause", "volumechange"]) this.#video.addEventListener(type, () => this.#show());
    this.#show();
  }

  #choose(sound) {
    this.#chosen = true;
    this.#video.muted = !sound;
    if (sound || this.#refused) this.#toggle(true);
    this.#show();
  }

  #toggle(on = this.#video.paused) {
    this.#wanted = on;
    if (on) this.#start();
    else this.#video.pause();
  }

  async #start() {
    try {
      await this.#video.play();
      this.#refused = false;
    } catch (error) {
      if (error.name !== "NotAllowedError") return;
      // With sound a browser may want a tap each time; without sound hardly any does.
      if (!this.#video.muted) {
        this.#video.muted = true;
        this.#chosen = false;
        return this.#start();
      }
      this.#refused = true;
    }
    this.#show();
  }

  #fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if (document.fullscreenEnabled) document.documentElement.requestFullscreen();
    // The telephones of one maker show only the picture so.
    else this.#video.webkitEnterFullscreen();
  }

  #onKey(event) {
    const isTyping = event.target.closest?.("input, select, dialog");
    if (isTyping || event.altKey || event.ctrlKey || event.metaKey || byId("stage").hidden) return;
    const button = { k: "play", m: "mute", f: "fullscreen" }[event.key.toLowerCase()];
    if (!button || byId(button).hidden) return;
    event.preventDefault();
    byId(button).click();
  }

  #show() {
    const video = this.#video;
    byId("play").setAttribute("aria-pressed", String(this.#wanted && !this.#refused));
    byId("mute").setAttribute("aria-pressed", String(!video.muted));
    label(byId("play"), "live.play");
    label(byId("mute"), "live.sound");
    const offer = this.#refused ? "live.tap-play" : "live.tap-sound";
    byId("sound").hidden = !this.#shown || !(this.#refused || (video.muted && !this.#chosen));
    byId("sound-icon").setAttribute("href", this.#refused ? "#icon-play" : "#icon-volume");
    say(byId("sound-text"), offer);
  }

  /** From opening the page, or from “go live”, to the first picture; it can be read in the performance tools. */
  #markFirstFrame() {
    const mark = () => performance.mark("relais:first-frame");
    if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback(mark);
    else this.#video.addEventListener("loadeddata", mark, { once: true });
  }
}
