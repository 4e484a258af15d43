// The room call of the first tutorial: namespace /webrtc, a page with one connection, stock socket.io-client.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { io } from 'socket.io-client';
import { WebSocket } from 'ws';
import { Inbox, Server, candidate, description, within } from './server.mjs';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

/** The page: joins a room, offers when told to call, answers what it is offered. */
class Page {
  constructor(options = {}, url = server.http) {
    this.inbox = new Inbox();
    this.socket = io(`${url}/webrtc`, { forceNew: true, reconnection: false, ...options });
    for (const event of ['webrtc-offer', 'webrtc-answer', 'webrtc-ice-candidate']) {
      this.socket.on(event, (data, ...more) => this.inbox.push({ event, data, more }));
    }
    this.errors = new Inbox();
    this.socket.on('error', (error) => this.errors.push(error));
  }

  connected() {
    const { socket } = this;
    return within(
      new Promise((resolve, reject) => {
        socket.on('connect', resolve);
        socket.on('connect_error', reject);
      }),
      'connect',
    );
  }

  async join(room) {
    if (!this.socket.connected) await this.connected();
    this.room = room;
    const answer = await within(this.socket.emitWithAck('join-room', { room }), 'the answer to join-room');
    return answer;
  }

  emit(event, body) {
    this.socket.emit(event, { room: this.room, ...body });
  }
}

const transports = {
  'polling only': { transports: ['polling'] },
  'websocket only': { transports: ['websocket'] },
  'polling, then an upgrade': {},
};

for (const [name, options] of Object.entries(transports)) {
  test(`a call in a room: ${name}`, async () => {
    const room = `call ${name}`;
    const [caller, callee] = [new Page(options), new Page(options)];
    try {
      await caller.join(room);
      await callee.join(room);
      if (!options.transports) {
        const engine = caller.socket.io.engine;
        if (engine.transport.name !== 'websocket') {
          await within(new Promise((resolve) => engine.once('upgrade', resolve)), 'the upgrade');
        }
      }
      caller.emit('webrtc-offer', { offer: description('offer', 1) });
      const offer = await callee.inbox.next('the offer');
      assert.deepEqual([offer.event, offer.data], [
        'webrtc-offer',
        { offer: description('offer', 1), room, from: caller.socket.id },
      ]);
      // Behind it comes the offset that a client comes back with.
      assert.match(offer.more.join(), /^\d+\.\d+$/);
      callee.emit('webrtc-answer', { answer: description('answer', 2) });
      const answer = await caller.inbox.next('the answer');
      assert.deepEqual(answer.data, { answer: description('answer', 2), room, from: callee.socket.id });
      for (let number = 1; number <= 20; number += 1) {
        caller.emit('webrtc-ice-candidate', { candidate: candidate(number) });
        callee.emit('webrtc-ice-candidate', { candidate: candidate(100 + number) });
      }
      caller.emit('webrtc-ice-candidate', { candidate: null });
      for (let number = 1; number <= 20; number += 1) {
        const [there, back] = [await callee.inbox.next(), await caller.inbox.next()];
        assert.deepEqual(there.data, { candidate: candidate(number), room, from: caller.socket.id });
        assert.deepEqual(back.data, { candidate: candidate(100 + number), room, from: callee.socket.id });
      }
      assert.deepEqual((await callee.inbox.next()).data.candidate, null);
      assert.deepEqual([caller.inbox.rest, callee.inbox.rest], [[], []]);
    } finally {
      caller.socket.close();
      callee.socket.close();
    }
  });
}

test('messages sent while the transport changes arrive once and in order', async () => {
  const [sender, receiver] = [new Page(), new Page()];
  try {
    await sender.join('upgrading');
    await receiver.join('upgrading');
    for (let number = 0; number < 90; number += 1) {
      sender.emit('webrtc-ice-candidate', { candidate: { number } });
      if (number % 10 === 0) await new Promise(setImmediate);
    }
    for (let number = 0; number < 90; number += 1) {
      assert.equal((await receiver.inbox.next(`candidate ${number}`)).data.candidate.number, number);
    }
  } finally {
    sender.socket.close();
    receiver.socket.close();
  }
});

test('a third page is refused, and may come when one has left', async () => {
  const pages = [new Page(), new Page(), new Page()];
  try {
    await pages[0].join('full');
    const second = await pages[1].join('full');
    assert.equal(second.peers[0].peer, pages[0].socket.id);
    const refusal = await pages[2].join('full');
    assert.equal(refusal.error.code, 'room-full');
    assert.equal((await pages[2].errors.next()).code, 'room-full');
    const left = new Inbox();
    pages[1].socket.on('peer-left', (peer) => left.push(peer));
    const first = pages[0].socket.id;
    pages[0].socket.close();
    assert.equal((await left.next('peer-left')).peer, first);
    assert.equal((await pages[2].join('full')).room, 'full');
  } finally {
    for (const page of pages) page.socket.close();
  }
});

test('nothing reaches a room from outside', async () => {
  const [inside, outside] = [new Page(), new Page()];
  try {
    await inside.join('inside');
    await outside.join('outside');
    outside.socket.emit('webrtc-offer', { room: 'inside', offer: description('offer', 1) });
    outside.socket.emit('webrtc-offer', { room: 'outside', offer: description('offer', 1), to: inside.socket.id });
    assert.equal((await outside.errors.next()).code, 'wrong-room');
    assert.equal((await outside.errors.next()).code, 'unknown-peer');
    assert.deepEqual(inside.inbox.rest, []);
  } finally {
    inside.socket.close();
    outside.socket.close();
  }
});

test('a socket.io page and a native page call each other', async () => {
  const page = new Page();
  const native = new WebSocket(`${server.ws}/api/ws`);
  const inbox = new Inbox();
  const opened = new Promise((resolve) => native.on('open', resolve));
  native.on('message', (data) => inbox.push(JSON.parse(data)));
  try {
    await page.join('mixed');
    await within(opened, 'open');
    native.send(JSON.stringify({ type: 'join', v: 1, room: 'mixed', name: 'Ada' }));
    const joined = await inbox.next('joined');
    const other = page.socket.id;
    assert.equal(joined.peers[0].peer, other);

    native.send(JSON.stringify({ type: 'offer', to: other, description: description('offer', 1) }));
    const offer = await page.inbox.next('the offer');
    assert.deepEqual(offer.data, { offer: description('offer', 1), room: 'mixed', from: joined.peer });
    page.emit('webrtc-answer', { answer: description('answer', 2) });
    const answer = await inbox.next('the answer');
    assert.deepEqual([answer.type, answer.from, answer.description], ['answer', other, description('answer', 2)]);
    page.emit('webrtc-ice-candidate', { candidate: candidate(1) });
    assert.deepEqual((await inbox.next('the candidate')).candidate, candidate(1));

    page.emit('webrtc-offer', { offer: description('offer', 3) });
    assert.deepEqual((await inbox.next('the offer back')).description, description('offer', 3));
    native.send(JSON.stringify({ type: 'answer', to: other, description: description('answer', 4) }));
    native.send(JSON.stringify({ type: 'candidate', to: other, candidate: null }));
    assert.deepEqual((await page.inbox.next()).data.answer, description('answer', 4));
    assert.equal((await page.inbox.next()).data.candidate, null);
  } finally {
    page.socket.close();
    native.close();
  }
});

test('an unknown namespace is refused in the words of the stock server', async () => {
  const socket = io(`${server.http}/nope`, { forceNew: true, reconnection: false });
  try {
    const error = await within(new Promise((resolve) => socket.on('connect_error', resolve)), 'connect_error');
    assert.equal(error.message, 'Invalid namespace');
  } finally {
    socket.close();
  }
});

test('two namespaces share one connection', async () => {
  const room = new Page();
  try {
    await room.connected();
    const main = room.socket.io.socket('/');
    const greeting = new Promise((resolve) => main.on('newUser', resolve));
    main.connect();
    assert.equal(await within(greeting, 'newUser'), `Coucou user :  ${main.id}`);
    assert.notEqual(main.id, room.socket.id);
    assert.equal(main.io.engine, room.socket.io.engine);
    main.disconnect();
    assert.equal((await room.join('still-here')).room, 'still-here');
  } finally {
    room.socket.close();
  }
});

test('where access is by invitation, the token comes in the URL or in auth', async () => {
  const closed = await Server.start('--access', 'invite');
  try {
    const stranger = new Page({}, closed.http);
    await assert.rejects(stranger.connected(), (error) => error.data.code === 'token-missing');
    stranger.socket.close();
    for (const options of [{ query: { token: closed.invite } }, { auth: { token: closed.invite } }]) {
      const guest = new Page(options, closed.http);
      assert.equal((await guest.join('invited')).room, 'invited');
      guest.socket.close();
    }
    const forger = new Page({ auth: { token: 'made.up.token' } }, closed.http);
    await assert.rejects(forger.connected(), (error) => error.data.code === 'token-invalid');
    forger.socket.close();
  } finally {
    await closed.stop();
  }
});

test('with more than two, an answer and the candidates behind it reach the one who offered', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'relais-rooms-'));
  const file = join(directory, 'relais.toml');
  await writeFile(file, '[limits]\npeers_per_room = 4\n');
  const wide = await Server.start('--config', file);
  const room = 'conference';
  const pages = [1, 2, 3, 4].map(() => new Page({}, wide.http));
  const [ada, bob, cleo, dan] = pages;
  try {
    for (const page of pages) await page.join(room);
    // Ada's offer goes to all; Bob is the first to answer, and Cleo's answer would break Ada's only connection.
    ada.emit('webrtc-offer', { offer: description('offer', 1) });
    for (const page of [bob, cleo, dan]) assert.equal((await page.inbox.next()).data.from, ada.socket.id);
    bob.emit('webrtc-answer', { answer: description('answer', 1) });
    bob.emit('webrtc-ice-candidate', { candidate: candidate(1) });
    for (const body of [{ answer: description('answer', 1) }, { candidate: candidate(1) }]) {
      assert.deepEqual((await ada.inbox.next()).data, { ...body, room, from: bob.socket.id });
    }
    const bye = new Inbox();
    cleo.socket.on('webrtc-bye', (data) => bye.push(data));
    cleo.emit('webrtc-answer', { answer: description('answer', 2) });
    assert.equal((await bye.next('a bye')).from, ada.socket.id);
    ada.emit('webrtc-ice-candidate', { candidate: candidate(2) });
    assert.deepEqual((await bob.inbox.next()).data, { candidate: candidate(2), room, from: ada.socket.id });
    // Cleo and Dan call each other in the same room, by name.
    dan.emit('webrtc-offer', { offer: description('offer', 3), to: cleo.socket.id });
    assert.equal((await cleo.inbox.next()).data.from, dan.socket.id);
    cleo.emit('webrtc-answer', { answer: description('answer', 3) });
    cleo.emit('webrtc-ice-candidate', { candidate: candidate(3) });
    for (const body of [{ answer: description('answer', 3) }, { candidate: candidate(3) }]) {
      assert.deepEqual((await dan.inbox.next()).data, { ...body, room, from: cleo.socket.id });
    }
    assert.deepEqual(pages.map((page) => page.inbox.rest), [[], [], [], []]);
  } finally {
    for (const page of pages) page.socket.close();
    await wide.stop();
    await rm(directory, { recursive: true });
  }
});

test('a page that is loaded again over and over finds its place in a room of two', async () => {
  const partner = new Page();
  try {
    await partner.join('reload');
    for (let load = 0; load < 3; load += 1) {
      const page = new Page();
      assert.equal((await page.join('reload')).room, 'reload');
      // As when a page is left: the transport ends, nobody says goodbye.
      page.socket.io.engine.close();
    }
  } finally {
    partner.socket.close();
  }
});
