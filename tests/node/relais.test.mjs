// relais.js without a browser: real rooms on a real server; only the media connections are played by a stand-in.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';

import { Server, within } from './server.mjs';

class Stream {
  #tracks = [];
  getTracks = () => this.#tracks;
  getAudioTracks = () => this.#tracks.filter(({ kind }) => kind === 'audio');
  getVideoTracks = () => this.#tracks.filter(({ kind }) => kind === 'video');
  addTrack = (track) => this.#tracks.push(track);
  removeTrack = () => {};
}

/** The way that `getStats` tells of; tests change it. */
let way = 'host';

/** As much of an RTCPeerConnection as a room asks of it: connected from the first description on. */
class Connection {
  static all = [];
  signalingState = 'stable';
  connectionState = 'new';
  iceConnectionState = 'new';
  localDescription = null;
  remoteDescription = null;
  restarts = 0;

  constructor(configuration) {
    this.configuration = configuration;
    Connection.all.push(this);
  }

  setConfiguration(configuration) {
    this.configuration = configuration;
  }

  createDataChannel = () => ({ readyState: 'connecting' });
  getTransceivers = () => [];

  addTransceiver() {
    if (!this.localDescription) queueMicrotask(() => this.onnegotiationneeded?.());
    return { sender: { replaceTrack: async () => {}, getParameters: () => ({ encodings: [{}] }), setParameters: async () => {} } };
  }

  async setLocalDescription() {
    const type = this.signalingState === 'have-remote-offer' ? 'answer' : 'offer';
    this.localDescription = { type, sdp: `v=0\r\no=- ${Connection.all.indexOf(this)} 1 IN IP4 127.0.0.1\r\n` };
    this.signalingState = type === 'offer' ? 'have-local-offer' : 'stable';
    this.#connect();
  }

  async setRemoteDescription(description) {
    this.remoteDescription = description;
    this.signalingState = description.type === 'offer' ? 'have-remote-offer' : 'stable';
    this.#connect();
  }

  #connect() {
    if (this.connectionState !== 'new' || !this.localDescription || !this.remoteDescription) return;
    this.connectionState = 'connected';
    queueMicrotask(() => this.onconnectionstatechange?.());
  }

  async addIceCandidate() {}

  restartIce() {
    this.restarts += 1;
  }

  async getStats() {
    return new Map([
      ['T', { type: 'transport', selectedCandidatePairId: 'P' }],
      ['P', { type: 'candidate-pair', localCandidateId: 'L', remoteCandidateId: 'R' }],
      ['L', { candidateType: way, relayProtocol: way === 'relay' ? 'udp' : undefined }],
      ['R', { candidateType: 'host' }],
    ]);
  }

  close() {
    this.signalingState = 'closed';
    this.connectionState = 'closed';
  }
}

globalThis.MediaStream = Stream;
const { join } = await import('../../static/relais.js');

let server;
const rooms = [];
before(async () => {
  server = await Server.start('--access', 'invite');
});
after(async () => {
  for (const room of rooms) room.leave();
  await server.stop();
});

/** Joins and waits until the server let us in (or did not: `closed`). */
async function enter(name, options = {}) {
  const room = join(name, { server: server.http, token: server.invite, WebSocket, RTCPeerConnection: Connection, ...options });
  rooms.push(room);
  room.told = [];
  for (const type of ['state', 'peer', 'peer-left', 'lock', 'closed', 'refused']) {
    room.addEventListener(type, ({ detail }) => room.told.push([type, detail]));
  }
  await happens(room, ['joined', 'closed']);
  return room;
}

function happens(room, types, isWanted = () => true) {
  return within(
    new Promise((resolve) => {
      for (const type of [types].flat()) room.addEventListener(type, ({ detail }) => isWanted(detail) && resolve(detail));
    }),
    types,
  );
}

function connected(room) {
  const is = () => room.peers.length > 0 && room.peers.every(({ state }) => state === 'connected');
  return is() ? null : happens(room, 'change', is);
}

/** A host and a guest who came by the host's invite. */
async function pair(name) {
  const host = await enter(name, { name: 'Ada' });
  const invite = await host.invite({ name: 'Bob' });
  const guest = await enter(name, { token: invite.token });
  await Promise.all([connected(host), connected(guest)]);
  return { host, guest, invite };
}

test('a host and a guest find each other; roles and names are as the tokens say', async () => {
  const { host, guest, invite } = await pair('find');
  assert.deepEqual([invite.role, host.role, guest.role], ['member', 'host', 'member']);
  assert.deepEqual([host.peers[0].id, host.peers[0].name, host.peers[0].role], [guest.id, 'Bob', 'member']);
  assert.deepEqual([guest.peers[0].id, guest.peers[0].name], [host.id, 'Ada']);
  assert.match(guest.peers[0].connection.configuration.iceServers.at(-1).username, new RegExp(`:p\\.${guest.id}$`));
  guest.leave();
  const { peer, reason } = await happens(host, 'peer-left');
  assert.deepEqual([peer.name, reason, host.peers.length], ['Bob', 'left', 0]);
  assert.equal(guest.told.at(-1)[0], 'peer-left');
});

test('kick, lock and close, and what everybody is told', async () => {
  const { host, guest, invite } = await pair('verbs');
  const connection = guest.peers[0].connection;
  host.lock();
  assert.equal((await happens(guest, 'lock')).by, host.id);
  assert.equal(guest.locked, true);
  const late = await enter('verbs', { token: invite.token });
  assert.equal(late.told.find(([type]) => type === 'closed')[1].code, 'room-locked');
  host.lock(false);
  await happens(guest, 'lock', ({ locked }) => !locked);
  const left = happens(host, 'peer-left');
  host.kick(host.peers[0]);
  assert.equal((await happens(guest, 'closed')).code, 'kicked');
  assert.deepEqual([connection.connectionState, guest.peers.length, guest.state], ['closed', 0, 'closed']);
  assert.equal((await left).reason, 'kicked');
  host.close();
  assert.equal((await happens(host, 'closed')).code, 'room-closed');
});

test('a guest may not: it is told, and an invite is refused at once', async () => {
  const { host, guest } = await pair('may-not');
  guest.kick(guest.peers[0]);
  assert.equal((await happens(guest, 'refused')).code, 'not-host');
  await assert.rejects(guest.invite(), /no invite/);
  assert.equal(host.peers.length, 1);
});

test('a broken socket is resumed in the same place', async () => {
  const sockets = [];
  class Kept extends WebSocket {
    constructor(...parameters) {
      super(...parameters);
      sockets.push(this);
    }
  }
  const host = await enter('resume');
  const guest = await enter('resume', { WebSocket: Kept });
  const { id } = guest;
  const back = happens(guest, 'joined');
  sockets[0].terminate();
  assert.equal((await back).resumed, true);
  assert.deepEqual([guest.id, sockets.length, host.peers[0].id], [id, 2, id]);
});

test('a connection that breaks shows that the socket is dead, and is restarted as soon as another one stands', async () => {
  let isCut = false;
  /** Whatever is sent or comes after the cut is lost, as in a network that one has left. */
  class Cut extends WebSocket {
    #isOld = !isCut;
    send = (data) => this.#isLost() || super.send(data);
    emit = (...event) => this.#isLost() || super.emit(...event);
    #isLost = () => this.#isOld && isCut;
  }
  const host = await enter('cut');
  const guest = await enter('cut', { WebSocket: Cut });
  await Promise.all([connected(host), connected(guest)]);
  const { connection } = guest.peers[0];
  isCut = true;
  const back = happens(guest, 'joined');
  connection.connectionState = 'disconnected';
  connection.onconnectionstatechange();
  // Its own ping would tell it in up to 25 s, for which this does not wait.
  assert.equal((await back).resumed, true);
  assert.equal(connection.restarts, 1);
});

test('nobody takes the place of another page by its instance, unless that page is away', async () => {
  const dir = await mkdtemp(path.join(tmpdir(), 'relais-node-'));
  const file = path.join(dir, 'relais.toml');
  await writeFile(file, '[limits]\npeers_per_room = 3\n[signaling]\nresume = "1s"\n');
  const large = await Server.start('--config', file);
  const rooms = [];
  const come = async (options) => {
    const room = await enter('place', options);
    rooms.push(room);
    return room;
  };
  try {
    const at = { server: large.http, token: large.invite };
    const sockets = [];
    class Mortal extends WebSocket {
      constructor(...parameters) {
        if (sockets.length > 0) throw new Error('the network is gone');
        sockets.push(super(...parameters));
      }
    }
    const bobs = { ...at, name: 'Bob', instance: 'bobs-page' };
    const host = await come({ ...at, name: 'Ada' });
    const guest = await come({ ...bobs, WebSocket: Mortal });
    await connected(host);
    const [bob] = host.peers;
    // Everybody in the room knows the instance of Bob's page. That of Eve claims to be it.
    const meeting = happens(host, 'peer');
    const eve = await come({ ...bobs, name: 'Eve' });
    assert.notEqual((await meeting).peer, bob);
    assert.deepEqual([host.peers[0], bob.id, bob.name], [bob, guest.id, 'Bob']);
    eve.leave();
    await happens(host, 'peer-left');
    // Bob's page is away, and comes back with nothing but its instance.
    const away = happens(host, 'change', () => bob.absent);
    sockets[0].terminate();
    await away;
    const back = happens(host, 'change', () => bob.id !== guest.id);
    const again = await come(bobs);
    await back;
    assert.deepEqual([host.peers.length, bob.id, bob.absent], [1, again.id, false]);
  } finally {
    // A page that nobody left would look for its server for ever.
    for (const room of rooms) room.leave();
    await large.stop();
    await rm(dir, { recursive: true, force: true });
  }
});

test('only a relayed address that stands on a credential about to end is renewed', async () => {
  for (const [name, expected] of [['host', 0], ['relay', 1]]) {
    way = name;
    const { guest } = await pair(`fresh-${name}`);
    const { connection } = guest.peers[0];
    await guest.peers[0].renewRelay(Date.now());
    assert.equal(connection.restarts, 0, 'its credential is good for longer');
    await guest.peers[0].renewRelay(Date.now() + 2 * 86_400_000);
    assert.equal(connection.restarts, expected, name);
  }
});
