// A stock client that loses its transport comes back as the same socket and misses nothing; one that loses its server
// comes back as another.

import assert from 'node:assert/strict';
import { createServer, connect } from 'node:net';
import { after, before, test } from 'node:test';
import { io } from 'socket.io-client';
import { Inbox, Server, candidate, description, within } from './server.mjs';

const fast = { reconnectionDelay: 50, reconnectionDelayMax: 200, randomizationFactor: 0 };
const ways = { polling: ['polling'], websocket: ['websocket'], 'an upgrade': ['polling', 'websocket'] };

/** Between a client and the server: cuts what passes, and lets nothing pass while it is shut. */
class Wire {
  static async to(url) {
    const { hostname, port } = new URL(url);
    const wire = new Wire();
    wire.pairs = new Set();
    wire.isShut = false;
    wire.listener = createServer((client) => {
      if (wire.isShut) return client.destroy();
      const server = connect(Number(port), hostname);
      const pair = [client, server];
      wire.pairs.add(pair);
      for (const [from, to] of [[client, server], [server, client]]) {
        from.pipe(to);
        from.on('error', () => {});
        from.on('close', () => {
          to.destroy();
          wire.pairs.delete(pair);
        });
      }
    });
    await new Promise((resolve) => wire.listener.listen(0, '127.0.0.1', resolve));
    wire.url = `http://127.0.0.1:${wire.listener.address().port}`;
    return wire;
  }

  shut() {
    this.isShut = true;
    for (const pair of this.pairs) pair.forEach((end) => end.destroy());
  }

  open() {
    this.isShut = false;
  }

  close() {
    this.shut();
    this.listener.close();
  }
}

const next = (socket, event) => within(new Promise((resolve) => socket.once(event, resolve)), event);

let server;
let wire;
before(async () => {
  server = await Server.start();
  wire = await Wire.to(server.http);
});
after(async () => {
  wire.close();
  await server.stop();
});

function inboxOf(socket, ...events) {
  const inbox = new Inbox();
  for (const event of events) socket.on(event, (data) => inbox.push({ event, data }));
  return inbox;
}

for (const [name, transports] of Object.entries(ways)) {
  test(`in a room, over ${name}: same id, same room, what was missed arrives once and in order`, async () => {
    const room = `recovery over ${name}`;
    const lossy = io(`${wire.url}/webrtc`, { forceNew: true, transports, ...fast });
    const steady = io(`${server.http}/webrtc`, { forceNew: true, transports, ...fast });
    const inbox = inboxOf(lossy, 'webrtc-offer', 'webrtc-ice-candidate');
    const news = inboxOf(steady, 'peer-lost', 'peer-back', 'peer-left');
    try {
      await next(lossy, 'connect');
      await within(lossy.emitWithAck('join-room', { room }), 'join');
      await within(steady.emitWithAck('join-room', { room }), 'join');
      if (transports.length > 1 && lossy.io.engine.transport.name !== 'websocket') {
        await next(lossy.io.engine, 'upgrade');
      }
      const id = lossy.id;
      assert.ok(!lossy.recovered);
      steady.emit('webrtc-offer', { room, offer: description('offer', 0) });
      assert.deepEqual((await inbox.next('the offer')).data.offer, description('offer', 0));

      for (let round = 1; round <= 3; round += 1) {
        wire.shut();
        // Between two polls nobody notices, and the socket is found where it was.
        if (name !== 'polling') {
          assert.deepEqual(await news.next('peer-lost'), { event: 'peer-lost', data: { peer: id } });
        }
        for (let number = 0; number < 20; number += 1) {
          steady.emit('webrtc-ice-candidate', { room, candidate: candidate(number) });
        }
        // Told when all of them are in the hub.
        await within(steady.emitWithAck('join-room', { room }), 'the answer behind them');
        const connected = next(lossy, 'connect');
        wire.open();
        await connected;
        assert.equal(lossy.recovered, true, `round ${round}`);
        assert.equal(lossy.id, id);
        for (let number = 0; number < 20; number += 1) {
          assert.deepEqual((await inbox.next(`missed ${number}`)).data.candidate, candidate(number));
        }
        if (name !== 'polling') {
          assert.deepEqual(await news.next('peer-back'), { event: 'peer-back', data: { peer: id } });
        }
        const again = await within(lossy.emitWithAck('join-room', { room }), 'joining again');
        assert.deepEqual([again.room, again.peer, again.peers.length], [room, id, 1]);
        lossy.emit('webrtc-answer', { room, answer: description('answer', round) });
      }
      assert.deepEqual(inbox.rest, []);
      assert.ok(!news.rest.some(({ event }) => event === 'peer-left'));
    } finally {
      wire.open();
      lossy.close();
      steady.close();
    }
  });
}

test('by id: offers to a lost socket wait for it', async () => {
  const lossy = io(wire.url, { forceNew: true, ...fast });
  const other = io(server.http, { forceNew: true, ...fast });
  const inbox = inboxOf(lossy, 'newUser', 'offer', 'candidate');
  try {
    await Promise.all([inbox.next('newUser'), next(other, 'newUser')]);
    const id = lossy.id;
    wire.shut();
    await next(lossy, 'disconnect');
    other.emit('offer', { offer: description('offer', 1), to: id });
    for (let number = 0; number < 5; number += 1) other.emit('candidate', { candidate: candidate(number), to: id });
    await within(other.emitWithAck('offer', { offer: 1, to: id }), 'passed on');
    const connected = next(lossy, 'connect');
    wire.open();
    await connected;
    assert.deepEqual([lossy.recovered, lossy.id], [true, id]);
    assert.deepEqual((await inbox.next()).data, { offer: description('offer', 1), from: other.id });
    for (let number = 0; number < 5; number += 1) {
      assert.deepEqual((await inbox.next()).data.candidate, candidate(number));
    }
    assert.equal((await inbox.next()).data.offer, 1);
    assert.deepEqual(inbox.rest, []);
  } finally {
    wire.open();
    lossy.close();
    other.close();
  }
});

test('a page that ends its engine comes back, one that disconnects does not', async () => {
  const socket = io(server.http, { forceNew: true, ...fast });
  try {
    await next(socket, 'newUser');
    const { id } = socket;
    socket.io.engine.close();
    await next(socket, 'connect');
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    socket.disconnect();
    socket.connect();
    await next(socket, 'connect');
    assert.ok(!socket.recovered);
    assert.notEqual(socket.id, id);
  } finally {
    socket.close();
  }
});

for (const [name, transports] of Object.entries(ways)) {
  test(`binary there and back over ${name}`, async () => {
    const room = `binary over ${name}`;
    const [one, other] = [1, 2].map(() => io(`${server.http}/webrtc`, { forceNew: true, transports, ...fast }));
    const main = io(server.http, { forceNew: true, transports, ...fast });
    const inboxes = [one, other].map((socket) => inboxOf(socket, 'webrtc-offer', 'webrtc-answer'));
    const byId = inboxOf(main, 'offer');
    try {
      await within(one.emitWithAck('join-room', { room }), 'join');
      await within(other.emitWithAck('join-room', { room }), 'join');
      const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 251));
      const sealed = { iv: Buffer.from([1, 2, 3]), parts: [bytes, Buffer.alloc(0)] };
      assert.deepEqual(await within(one.emitWithAck('webrtc-offer', { room, offer: sealed }), 'passed on'), undefined);
      assert.deepEqual((await inboxes[1].next('bytes')).data, { offer: sealed, room, from: one.id });
      other.emit('webrtc-answer', { room, answer: bytes });
      assert.deepEqual((await inboxes[0].next('bytes back')).data, { answer: bytes, room, from: other.id });
      if (!main.connected) await next(main, 'connect');
      main.io.socket('/').emit('offer', { offer: sealed, to: main.id });
      const caller = io(server.http, { forceNew: true, transports, ...fast });
      await next(caller, 'newUser');
      caller.emit('offer', { offer: sealed, to: main.id });
      assert.deepEqual((await byId.next('bytes by id')).data, { offer: sealed, from: caller.id });
      caller.close();
    } finally {
      for (const socket of [one, other, main]) socket.close();
    }
  });
}

test('acknowledgements tell what became of an event', async () => {
  const socket = io(`${server.http}/webrtc`, { forceNew: true, ...fast });
  try {
    const refused = await within(socket.emitWithAck('webrtc-offer', { offer: 1 }), 'a refusal');
    assert.equal(refused.error.code, 'join-first');
    assert.equal((await within(socket.emitWithAck('join-room', 'acks'), 'join')).room, 'acks');
    assert.equal(await within(socket.emitWithAck('webrtc-offer', { offer: 1 }), 'passed on'), undefined);
    assert.equal(await within(socket.emitWithAck('leave-room'), 'left'), undefined);
  } finally {
    socket.close();
  }
});

test('after a restart of the server clients come back by themselves, as new sockets', async () => {
  let own = await Server.start();
  const passage = await Wire.to(own.http);
  const socket = io(`${passage.url}/webrtc`, { forceNew: true, ...fast });
  try {
    await within(socket.emitWithAck('join-room', 'restart'), 'join');
    const { id } = socket;
    const lost = next(socket, 'disconnect');
    await own.stop();
    await lost;
    own = await Server.start('--tcp', new URL(own.http).host);
    await next(socket, 'connect');
    assert.ok(!socket.recovered);
    assert.notEqual(socket.id, id);
    assert.equal((await within(socket.emitWithAck('join-room', 'restart'), 'join')).peers.length, 0);
  } finally {
    socket.close();
    passage.close();
    await own.stop();
  }
});
