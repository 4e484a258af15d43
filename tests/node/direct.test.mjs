// The call by id of the fourth tutorial: main namespace, ids shown on the page, stock socket.io-client.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { io } from 'socket.io-client';
import { Inbox, Server, candidate, description } from './server.mjs';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

class Page {
  constructor(options = {}) {
    this.greetings = new Inbox();
    this.inbox = new Inbox();
    this.socket = io(server.http, { forceNew: true, reconnection: false, ...options });
    this.socket.on('newUser', (text) => this.greetings.push(text));
    for (const event of ['offer', 'answer', 'candidate', 'bye']) {
      this.socket.on(event, (data) => this.inbox.push({ event, data }));
    }
  }

  async id() {
    const greeting = await this.greetings.next('newUser');
    assert.equal(greeting, `Coucou user :  ${this.socket.id}`);
    return greeting.split(' : ')[1].trim();
  }
}

for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
  test(`a call by id over ${transports.join(', then ')}`, async () => {
    const [caller, callee, other] = [new Page({ transports }), new Page({ transports }), new Page({ transports })];
    try {
      const [from, to] = [await caller.id(), await callee.id()];
      await other.id();
      caller.socket.emit('offer', { offer: description('offer', 1), to });
      assert.deepEqual(await callee.inbox.next('the offer'), {
        event: 'offer',
        data: { offer: description('offer', 1), from },
      });
      callee.socket.emit('answer', { answer: description('answer', 2), to: from });
      assert.deepEqual(await caller.inbox.next('the answer'), {
        event: 'answer',
        data: { answer: description('answer', 2), from: to },
      });
      caller.socket.emit('candidate', { candidate: candidate(1), to });
      callee.socket.emit('candidate', { candidate: candidate(2), to: from });
      assert.deepEqual((await callee.inbox.next()).data, { candidate: candidate(1), from });
      assert.deepEqual((await caller.inbox.next()).data, { candidate: candidate(2), from: to });
      callee.socket.emit('bye', { to: from });
      assert.deepEqual(await caller.inbox.next('the goodbye'), { event: 'bye', data: { from: to } });
      assert.deepEqual(other.inbox.rest, []);
    } finally {
      for (const page of [caller, callee, other]) page.socket.close();
    }
  });
}

test('the public id opens nothing in the transport', async () => {
  const victim = new Page({ transports: ['polling'] });
  try {
    const id = await victim.id();
    const response = await fetch(`${server.http}/socket.io/?EIO=4&transport=polling&sid=${id}`, {
      method: 'POST',
      body: '42["offer",{"offer":{},"to":"x"}]',
    });
    assert.equal(response.status, 400);
    assert.deepEqual(await response.json(), { code: 1, message: 'Session ID unknown' });
  } finally {
    victim.socket.close();
  }
});

test('a room is no address, nor is oneself, nor somebody who left', async () => {
  const [page, other, gone] = [new Page(), new Page(), new Page()];
  try {
    const [id, otherId, goneId] = [await page.id(), await other.id(), await gone.id()];
    gone.socket.close();
    const errors = new Inbox();
    page.socket.on('error', (error) => errors.push(error.code));
    for (const to of ['/', 'default', id]) {
      page.socket.emit('offer', { offer: description('offer', 1), to });
      assert.equal(await errors.next(`the error for ${to}`), 'unknown-peer');
    }
    // The close is told to the server at once, but by another connection than ours.
    for (let code; code !== 'unknown-peer'; ) {
      page.socket.emit('offer', { offer: description('offer', 1), to: goneId });
      page.socket.emit('offer', { offer: description('offer', 1), to: otherId });
      await other.inbox.next('the next offer');
      code = errors.rest[0];
    }
    assert.deepEqual(page.inbox.rest, []);
  } finally {
    page.socket.close();
    other.socket.close();
  }
});
