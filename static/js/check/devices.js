// Camera and microphone, tested when somebody asks for it: a picture, a level, and what went wrong.

import { say } from "../i18n.js";
import { deviceProblem } from "../devices.js";
import { byId, Rows } from "./view.js";

/** From this level on somebody is speaking; a quiet room stays below. */
const HEARD = 0.02;
/** The bar is drawn logarithmically from here to full level, as the ear hears. */
const FLOOR_DB = -60;

/** Makes the buttons of the part work. `done` gets what was found, for the report. */
export function setUpDevices(done) {
  const rows = new Rows(byId("rows-devices"));
  let stop = null;
  byId("devices-start").addEventListener("click", async () => {
    byId("devices-start").disabled = true;
    stop = await test(rows, done).catch((error) => {
      const problem = navigator.mediaDevices ? deviceProblem(error) : "insecure";
      say(byId("devices-said"), problem === "insecure" ? "check.devices.insecure" : `problem.both.${problem}`);
      done({ ok: false, problem });
      return null;
    });
    byId("devices-start").disabled = false;
    show(stop !== null);
    if (stop) byId("devices-stop").focus();
  });
  byId("devices-stop").addEventListener("click", () => {
    stop?.();
    stop = null;
    show(false);
    say(byId("devices-said"), "check.devices.text");
    byId("devices-said").textContent = "";
    byId("devices-start").focus();
  });
}

function show(running) {
  byId("devices").hidden = !running;
  byId("devices-stop").hidden = !running;
  byId("devices-start").hidden = running;
}

async function test(rows, done) {
  const stream = await open();
  const [camera, microphone] = [stream.getVideoTracks()[0], stream.getAudioTracks()[0]];
  rows.clear();
  byId("camera").srcObject = stream;
  byId("camera").hidden = !camera;
  const { width = 0, height = 0 } = camera?.getSettings() ?? {};
  const row = (id, track, values) => {
    const detail = track ? [`check.devices.${id}`, { name: track.label, ...values }] : null;
    const problem = ["problem.video.missing", "problem.audio.missing"][id === "camera" ? 0 : 1];
    rows.set(id, { level: track ? "good" : "warning", title: detail ?? [problem] });
  };
  row("camera", camera, { width, height });
  row("microphone", microphone, {});
  const silence = microphone ? listen(microphone) : () => {};
  done({ ok: true, camera: Boolean(camera), microphone: Boolean(microphone), width, height });
  return () => {
    silence();
    for (const track of stream.getTracks()) track.stop();
    byId("camera").srcObject = null;
  };
}

/** Both, else the one that is there. */
async function open() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  } catch (error) {
    if (deviceProblem(error) !== "missing") throw error;
    return navigator.mediaDevices.getUserMedia({ audio: true }).catch(() => navigator.mediaDevices.getUserMedia({ video: true }));
  }
}

/** Shows the level of the microphone until the function that it gives is called. */
function listen(track) {
  const context = new AudioContext();
  // Not waited for: Firefox never starts it on a device without loudspeakers.
  context.resume().catch(() => {});
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const [bar, words] = [byId("level"), byId("devices-said")];
  say(words, "check.devices.silent");
  let frame = 0;
  const draw = () => {
    analyser.getFloatTimeDomainData(samples);
    const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    bar.value = level > 0 ? Math.min(Math.max(1 - (20 * Math.log10(level)) / FLOOR_DB, 0), 1) : 0;
    // Said once: a screen reader would not stop otherwise.
    if (level > HEARD && words.dataset.text !== "check.devices.heard") say(words, "check.devices.heard");
    frame = requestAnimationFrame(draw);
  };
  draw();
  return () => {
    cancelAnimationFrame(frame);
    context.close();
  };
}
