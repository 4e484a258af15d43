// What this page asks the server itself: the ICE configuration with the server's facts, and the WebSocket. No DOM.

const ANSWER_WITHIN = 8_000;
const PINGS = 5;

/**
 * `GET /api/ice?all=1`. Gives `{ ok, ms, ice, skew }`, the skew in seconds by which the server's clock is ahead of ours;
 * or `{ ok: false, code }`: the server's own word, or `no-answer`.
 */
export async function askIce(token) {
  const started = performance.now();
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch("/api/ice?all=1", { headers, signal: AbortSignal.timeout(ANSWER_WITHIN) });
    const ms = Math.round(performance.now() - started);
    const body = await answer.json();
    if (!answer.ok) return { ok: false, ms, code: body.code ?? `http-${answer.status}` };
    // The server's seconds are whole ones, and the answer took half its time back.
    const skew = body.server ? body.server.time + 0.5 - (Date.now() - ms / 2) / 1_000 : null;
    return { ok: true, ms, ice: body, skew: skew === null ? null : Math.round(skew) };
  } catch {
    return { ok: false, ms: Math.round(performance.now() - started), code: "no-answer" };
  }
}

/** Opens the WebSocket of signaling and sends pings. Gives `{ ok, ms, rtt }` in milliseconds. */
export async function askSignaling(WebSocket = globalThis.WebSocket) {
  const started = performance.now();
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/ws`);
  try {
    await next(socket, "open");
    const ms = Math.round(performance.now() - started);
    const times = [];
    for (let count = 0; count < PINGS; count += 1) {
      const sent = performance.now();
      socket.send(JSON.stringify({ type: "ping" }));
      await next(socket, "message");
      times.push(performance.now() - sent);
    }
    return { ok: true, ms, rtt: times.sort((a, b) => a - b)[Math.floor(PINGS / 2)] };
  } catch {
    return { ok: false, ms: Math.round(performance.now() - started) };
  } finally {
    socket.close();
  }
}

function next(socket, type) {
  return new Promise((done, fail) => {
    const late = setTimeout(fail, ANSWER_WITHIN, new Error("no answer"));
    const ended = (end) => (event) => {
      clearTimeout(late);
      end(event);
    };
    socket.addEventListener(type, ended(done), { once: true });
    socket.addEventListener("close", ended(() => fail(new Error("closed"))), { once: true });
  });
}
