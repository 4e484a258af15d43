// What happened on a page, kept for somebody who is asked for help: states, candidates, figures. Without secrets.

/** The newest entries are kept; an hour of a call with one peer is some 3,600. */
const ENTRIES = 4_000;
/** Of one entry: how deep, how many fields or items of each level, how long a text. */
const DEPTH = 5;
const FIELDS = 64;
const TEXT = 400;

const SECRET_NAME = /token|secret|passw|credential|username|ufrag|pwd|fingerprint|certificate|authorization|cookie|session/i;
const REMOVED = "[removed]";
/** Secrets inside of a text: access tokens, time-limited usernames, fragments of SDP and of candidates, fingerprints. */
const SECRET_TEXTS = [
  [/\b[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}/g, REMOVED],
  [/\b(t|token|key|secret)=[^&\s"]+/gi, `$1=${REMOVED}`],
  [/\b\d{9,11}:[^\s"',]+/g, REMOVED],
  [/(ufrag|ice-ufrag:|ice-pwd:)\s*\S+/gi, `$1 ${REMOVED}`],
  [/\b[0-9a-f]{2}(:[0-9a-f]{2}){15,}/gi, REMOVED],
];

/**
 * Starts the log of a page.
 * `add(kind, data)` keeps an entry; `report()` gives everything as an object; `save()` lets the user download it as JSON.
 */
export function startLog(page) {
  const entries = [];
  let dropped = 0;
  const log = {
    add(kind, data = null) {
      entries.push({ at: new Date().toISOString(), kind, data: withoutSecrets(data) });
      if (entries.length <= ENTRIES) return;
      entries.shift();
      dropped += 1;
    },
    report() {
      return {
        product: "Relais",
        page,
        address: location.origin + location.pathname,
        browser: navigator.userAgent,
        languages: navigator.languages,
        saved: new Date().toISOString(),
        dropped,
        entries,
      };
    },
    save() {
      const report = log.report();
      const name = `relais-${page}-${report.saved.slice(0, 19).replaceAll(":", "")}.json`;
      download(name, JSON.stringify(report, null, 1));
    },
  };
  addEventListener("error", ({ message, filename, lineno }) => log.add("error", { message, filename, lineno }));
  addEventListener("unhandledrejection", ({ reason }) => log.add("error", { message: String(reason) }));
  for (const type of ["online", "offline"]) addEventListener(type, () => log.add(type));
  document.addEventListener("visibilitychange", () => log.add("visibility", document.visibilityState));
  log.add("opened");
  return log;
}

/** Logs what a connection goes through: states, candidates of this side, and what ICE servers answer. */
export function logConnection(log, connection, name) {
  const states = () => ({
    name,
    connection: connection.connectionState,
    ice: connection.iceConnectionState,
    gathering: connection.iceGatheringState,
    signaling: connection.signalingState,
  });
  for (const type of ["connectionstatechange", "iceconnectionstatechange", "icegatheringstatechange", "signalingstatechange"]) {
    connection.addEventListener(type, () => log.add("state", states()));
  }
  connection.addEventListener("icecandidate", ({ candidate }) => {
    if (candidate) log.add("candidate", { name, candidate: candidate.candidate, url: candidate.url });
  });
  connection.addEventListener("icecandidateerror", ({ errorCode, errorText, url, address }) => {
    log.add("candidate-error", { name, code: errorCode, text: errorText, url, address });
  });
}

/** A copy that may be shown to others: bounded, plain, and with nothing that lets anybody in. */
export function withoutSecrets(value, depth = DEPTH) {
  if (typeof value === "string") {
    const clean = SECRET_TEXTS.reduce((text, [pattern, instead]) => text.replace(pattern, instead), value);
    return clean.length > TEXT ? `${clean.slice(0, TEXT)}…` : clean;
  }
  if (value === null || typeof value === "number" || typeof value === "boolean") return value;
  if (typeof value !== "object") return value === undefined ? undefined : String(value);
  if (depth === 0) return "…";
  if (Array.isArray(value)) return value.slice(0, FIELDS).map((item) => withoutSecrets(item, depth - 1));
  const fields = Object.entries(value).slice(0, FIELDS);
  return Object.fromEntries(
    fields.map(([name, item]) => [name, SECRET_NAME.test(name) ? REMOVED : withoutSecrets(item, depth - 1)]),
  );
}

/** Hands a text to the user as a file. */
export function download(name, content, type = "application/json") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
