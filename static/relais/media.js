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

/** Bits per second of pictures that a page sends to all others together where it sends to several. */
const VIDEO_BUDGET = 3_000_000;

/**
 * What to send to each of so many others: everybody gets an encoding of their own, so the more there are, the smaller
 * is the picture, as it is on their pages. `null`: whatever the way carries.
 */
export function videoLimit(others) {
  if (others < 2) return null;
  return { maxBitrate: Math.round(VIDEO_BUDGET / others), scaleDown: others < 3 ? 1.5 : 2 };
}

/** Makes an `RTCRtpSender` of pictures keep to a limit of `videoLimit`. */
export async function limitSender(sender, limit) {
  const parameters = sender?.getParameters();
  const encoding = parameters?.encodings?.[0];
  if (!encoding) return;
  // A shared screen is text: it stays readable, and comes less often.
  const isScreen = sender.track?.contentHint === "detail";
  encoding.scaleResolutionDownBy = isScreen ? 1 : (limit?.scaleDown ?? 1);
  if (limit) encoding.maxBitrate = limit.maxBitrate;
  else delete encoding.maxBitrate;
  // A sender that is changing just now is asked again with its next track.
  await sender.setParameters(parameters).catch(() => {});
}
