// Gives the RTCPeerConnections of a page that was written without us this server's STUN and TURN:
//
//   <script src="https://HOST/ice.js"></script>     before the page's own scripts
//
// Where invitations are needed, the token is `?token=` of this address or of the page's, or `#t=` of the page's.
// The page's own servers are kept beside ours; `?only` drops them. PROTOCOL.md says more.
//
// The configuration is fetched while the page loads, but `new RTCPeerConnection` cannot wait. So the operations that
// a connection works off one after the other (JSEP's operations chain) wait in their order for the configuration, and
// no candidate is gathered without it. Should it not come in time, the connection goes on without us.

(() => {
  "use strict";

  const Native = window.RTCPeerConnection;
  const here = document.currentScript?.src;
  if (!Native) return;
  if (!here) return console.error("relais: load ice.js by a plain <script src> without type=module");

  /** Longest wait of a connection for the first configuration. */
  const PATIENCE = 4_000;
  const FIRST_RETRY = 2_000;
  const LONGEST_RETRY = 60_000;
  /** Longest delay that timers take. */
  const LONGEST_TIMER = 2 ** 31 - 1;
  const WAITING = ["createOffer", "createAnswer", "setLocalDescription", "setRemoteDescription", "addIceCandidate"];

  const address = new URL(here);
  const only = address.searchParams.has("only");
  const token = address.searchParams.get("token") ??
    new URLSearchParams(location.search).get("token") ??
    new URLSearchParams(location.hash.slice(1)).get("t");

  /** What the server gave last, and every username that it ever gave. */
  let ours = [];
  const issued = new Set();
  /** The page's own configuration of each connection, and the connections that are still there. */
  const asked = new WeakMap();
  const live = new Set();

  let open = false;
  let begin;
  const gate = new Promise((resolve) => {
    begin = resolve;
  });
  gate.then(() => {
    open = true;
  });

  const native = Object.fromEntries([...WAITING, "setConfiguration"].map((name) => [name, Native.prototype[name]]));

  for (const name of WAITING) {
    replace(name, function (...parameters) {
      if (open || !asked.has(this)) return native[name].apply(this, parameters);
      return gate.then(() => native[name].apply(this, parameters));
    });
  }
  replace("setConfiguration", function (...parameters) {
    const configuration = parameters[0] ?? {};
    if (!asked.has(this) || !isConfiguration(configuration)) return native.setConfiguration.apply(this, parameters);
    native.setConfiguration.call(this, merged(configuration));
    asked.set(this, { ...configuration });
  });

  // A proxy is the same class to `instanceof`, subclasses and static members; only `new` differs.
  const Wrapped = new Proxy(Native, {
    construct(target, parameters, newTarget) {
      const configuration = parameters[0] ?? {};
      if (!isConfiguration(configuration)) return Reflect.construct(target, parameters, newTarget);
      const connection = Reflect.construct(target, [merged(configuration), ...parameters.slice(1)], newTarget);
      asked.set(connection, { ...configuration });
      remember(connection);
      return connection;
    },
  });
  Native.prototype.constructor = Wrapped;
  for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection"]) {
    if (window[name] === Native) window[name] = Wrapped;
  }

  setTimeout(begin, PATIENCE);
  fetchServers(1);

  async function fetchServers(attempt) {
    let next;
    try {
      const ice = await ask();
      take(ice.iceServers);
      begin();
      // At three quarters of the credential's life.
      next = ice.ttl > 0 ? ice.ttl * 750 : LONGEST_TIMER;
      attempt = 0;
    } catch (error) {
      // Once is enough to be seen; a console full of it helps nobody.
      if (attempt === 1) console.warn(`relais: no ICE servers from ${address.origin}: ${error.message}`);
      if (error.final) return begin();
      next = Math.min(FIRST_RETRY * 2 ** (attempt - 1), LONGEST_RETRY);
    }
    setTimeout(() => fetchServers(attempt + 1), Math.min(next, LONGEST_TIMER));
  }

  async function ask() {
    const answer = await fetch(`${address.origin}/api/ice`, {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      credentials: "omit",
      cache: "no-store",
    });
    if (answer.ok) return answer.json();
    const { code, message } = await answer.json().catch(() => ({}));
    const refused = new Error(message ?? code ?? `status ${answer.status}`);
    // An invitation that is not valid now will not be later.
    refused.final = answer.status === 401 || answer.status === 403;
    throw refused;
  }

  /** From now on every connection gathers with these; what runs goes on as it is. */
  function take(servers) {
    ours = servers;
    for (const { username } of servers) if (username) issued.add(username);
    for (const connection of connections()) {
      try {
        native.setConfiguration.call(connection, merged(asked.get(connection)));
      } catch (error) {
        console.warn("relais: a connection keeps its old ICE servers:", error);
      }
    }
  }

  /** Those that are still in use; the others are forgotten. */
  function connections() {
    const found = [];
    for (const entry of [...live]) {
      const connection = entry.deref();
      if (connection && connection.signalingState !== "closed") found.push(connection);
      else live.delete(entry);
    }
    return found;
  }

  function remember(connection) {
    live.add(new WeakRef(connection));
    if (live.size % 32 === 0) connections();
  }

  /** The page's configuration with ours added. What names one of our URLs itself has its own credentials for it. */
  function merged(configuration) {
    // Pages hand back what getConfiguration told them: our own of before.
    const theirs = (configuration.iceServers ?? []).filter(({ username }) => !issued.has(username));
    const kept = only ? [] : theirs;
    const known = new Set(named(kept));
    const added = ours
      .map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => !known.has(url)) }))
      .filter((server) => server.urls.length > 0);
    return { ...configuration, iceServers: [...kept, ...added] };
  }

  function named(servers) {
    return servers.flatMap(({ urls, url }) => [urls ?? url ?? []].flat());
  }

  /** What is no dictionary is the browser's to complain about. */
  function isConfiguration(value) {
    return typeof value === "object" && value !== null && (value.iceServers === undefined || Array.isArray(value.iceServers));
  }

  function replace(name, method) {
    const { length } = native[name];
    Object.defineProperties(method, { name: { value: name }, length: { value: length } });
    Native.prototype[name] = method;
  }
})();
