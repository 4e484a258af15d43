// A real Chromium in a client's namespace, and what its peer connections say.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

// The browser tests' package has the one copy of the driver.
const { chromium } = createRequire(new URL('../browser/package.json', import.meta.url))('playwright-core');

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
];

/** Starts Chromium in `ns`; it trusts the CA in the file `ca` (for pages and for `turns:` alike). `options` of its context. */
export async function startBrowser(ns, directory, ca, options = {}) {
  const home = join(directory, `home-${ns}`);
  const nss = join(home, '.pki', 'nssdb');
  mkdirSync(nss, { recursive: true });
  if (ca) {
    const db = `sql:${nss}`;
    execFileSync('certutil', ['-N', '-d', db, '--empty-password']);
    execFileSync('certutil', ['-A', '-d', db, '-t', 'C,,', '-n', 'lab', '-i', ca]);
  }
  const wrapper = join(home, 'chromium');
  writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec ${ns} chromium "$@"\n`, { mode: 0o755 });
  const env = { PATH: process.env.PATH, HOME: home, LANG: 'en_US.UTF-8' };
  const browser = await chromium.launch({ executablePath: wrapper, args: FLAGS, env });
  const context = await browser.newContext({ locale: 'en-US', permissions: ['camera', 'microphone'], ...options });
  await context.addInitScript(keepPeerConnections);
  const page = await context.newPage();
  const messages = [];
  page.on('console', (message) => messages.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => messages.push(`error: ${error.message}`));
  return { page, messages, close: () => browser.close() };
}

/** Runs in the page before its own scripts: remembers every RTCPeerConnection that the page makes. */
function keepPeerConnections() {
  const kept = [];
  Object.defineProperty(window, 'labPeerConnections', { value: kept });
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(...parameters) {
      super(...parameters);
      kept.push(this);
    }
  };
}

/** Runs in the page before its own scripts: connections are offered the relay over TLS and nothing else. */
export function offerTurnsOnly() {
  const only = (configuration) => ({
    ...configuration,
    iceServers: (configuration?.iceServers ?? [])
      .map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => url.startsWith('turns:')) }))
      .filter(({ urls }) => urls.length > 0),
  });
  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(configuration) {
      super(only(configuration));
    }

    setConfiguration(configuration) {
      super.setConfiguration(only(configuration));
    }
  };
}

/** Begins an ICE restart of the page's newest live connection. */
export function restartIce(page) {
  return page.evaluate(() => window.labPeerConnections.findLast(({ connectionState }) => connectionState !== 'closed').restartIce());
}

/**
 * What the page's newest live peer connection has by now: decoded video frames; the selected pair's candidates as type,
 * protocol (for a relay candidate of its own: the protocol between client and server) and URL of the server; the username
 * fragments that are agreed, and what is known of every pair: under which fragments it runs, whether a check of ours
 * succeeded, how many of the other side's we answered, the priorities of its candidates (the lesser first).
 */
export function callState(page) {
  return page.evaluate(async () => {
    const connection = window.labPeerConnections.findLast(({ connectionState }) => connectionState !== 'closed');
    if (!connection) return { state: 'none', frames: 0, bytes: 0, pairs: [] };
    const stats = [...(await connection.getStats()).values()];
    const byId = new Map(stats.map((entry) => [entry.id, entry]));
    const video = stats.filter(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
    const total = (field) => video.reduce((sum, entry) => sum + (entry[field] ?? 0), 0);
    const transport = stats.find(({ type }) => type === 'transport');
    const pair = byId.get(transport?.selectedCandidatePairId);
    const candidate = (id) => {
      const entry = byId.get(id);
      return entry && { type: entry.candidateType, protocol: entry.relayProtocol ?? entry.protocol, url: entry.url ?? null };
    };
    const fragment = (description) => /^a=ice-ufrag:(.+)$/m.exec(description?.sdp ?? '')?.[1].trim() ?? null;
    const told = ({ id, localCandidateId, remoteCandidateId, state, responsesSent }) => {
      const ends = [byId.get(localCandidateId), byId.get(remoteCandidateId)];
      return {
        id,
        chosen: id === pair?.id,
        fragments: ends.map((end) => end?.usernameFragment),
        succeeded: state === 'succeeded',
        answered: responsesSent ?? 0,
        priorities: ends.map((end) => end?.priority ?? 0).sort((one, other) => one - other),
      };
    };
    return {
      state: connection.connectionState,
      stable: connection.signalingState === 'stable',
      frames: total('framesDecoded'),
      bytes: total('bytesReceived'),
      local: pair && candidate(pair.localCandidateId),
      remote: pair && candidate(pair.remoteCandidateId),
      ours: fragment(connection.localDescription),
      theirs: fragment(connection.remoteDescription),
      pairs: stats.filter(({ type }) => type === 'candidate-pair').map(told),
    };
  });
}
