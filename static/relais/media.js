// What a page sends: one track of each kind at most. No DOM.

/**
 * What connections read tracks from, made of what a page gave to `join`: a MediaStream, nothing, or an object
 * `{ audio, video, stream }` that the page keeps up to date itself.
 */
export function localMedia(media) {
  if (media && typeof media.getTracks !== "function") return media;
  return new Local(media ?? new MediaStream());
}

class Local {
  constructor(stream) {
    this.stream = stream;
    this.audio = stream.getAudioTracks()[0] ?? null;
    this.video = stream.getVideoTracks()[0] ?? null;
  }

  set(kind, track) {
    this[kind] = track;
  }
}
