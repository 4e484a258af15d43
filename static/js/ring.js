// The sound of an incoming call: two soft tones. Browsers allow it once somebody has touched the page.

const EVERY = 2_400;
let context = null;
let timer = null;

export function startRinging() {
  if (timer || !navigator.userActivation?.hasBeenActive) return;
  context ??= new AudioContext();
  ringOnce();
  timer = setInterval(ringOnce, EVERY);
}

export function stopRinging() {
  clearInterval(timer);
  timer = null;
}

function ringOnce() {
  for (const [index, frequency] of [587, 784].entries()) tone(frequency, context.currentTime + index * 0.22);
}

function tone(frequency, at) {
  const oscillator = new OscillatorNode(context, { frequency });
  const volume = new GainNode(context, { gain: 0 });
  volume.gain.linearRampToValueAtTime(0, at);
  volume.gain.linearRampToValueAtTime(0.12, at + 0.03);
  volume.gain.exponentialRampToValueAtTime(0.001, at + 0.5);
  oscillator.connect(volume).connect(context.destination);
  oscillator.start(at);
  oscillator.stop(at + 0.55);
}
