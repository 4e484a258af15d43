// Starts the built server on free loopback ports, and waits for what it says or for what a client sees.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const binary = process.env.RELAIS_BIN ?? join(root, 'target', 'debug', 'relais');

/** How long anything may take before a test fails, in milliseconds. */
export const PATIENCE = 10_000;

/** A running server: `http` and `ws` are its origins, `invite` a token for every room. */
export class Server {
  static async start(...flags) {
    const state = await mkdtemp(join(tmpdir(), 'relais-node-'));
    const listen = ['--udp', '127.0.0.1:0', '--tcp', '127.0.0.1:0'];
    const child = spawn(binary, ['serve', '--log-format', 'json', '--state-dir', state, ...listen, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const server = new Server();
    Object.assign(server, { child, state, log: [] });
    const ready = await within(server.#ready(), 'the ready line', () => server.log.join('\n'));
    server.http = `http://${ready.tcp[0]}`;
    server.ws = `ws://${ready.tcp[0]}`;
    server.invite = ready.invite;
    return server;
  }

  #ready() {
    return new Promise((resolve, reject) => {
      createInterface({ input: this.child.stderr }).on('line', (line) => {
        this.log.push(line);
        let entry;
        try {
          entry = JSON.parse(line);
        } catch {
          return;
        }
        if (entry.event === 'ready') resolve(entry);
      });
      this.child.on('error', reject);
      this.child.on('exit', (code) => reject(new Error(`exit code ${code}\n${this.log.join('\n')}`)));
    });
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exited = once(this.child, 'exit');
      this.child.kill('SIGTERM');
      await within(exited, 'the server to stop');
    }
    await rm(this.state, { recursive: true, force: true });
  }
}

/** `promise`, or a failure that names what did not come. */
export async function within(promise, what, more = () => '') {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what} ${more()}`)), PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Messages as they arrive, to be taken one by one. */
export class Inbox {
  #messages = [];
  #waiting = [];

  push(message) {
    const taker = this.#waiting.shift();
    if (taker) taker(message);
    else this.#messages.push(message);
  }

  /** The next message, whatever it is. */
  next(what = 'a message') {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what);
  }

  /** What has arrived and was not taken. */
  get rest() {
    return [...this.#messages];
  }
}

/** Browsers make these; a server must carry them as they are. */
export const description = (type, mark) => ({ type, sdp: `v=0\r\no=- ${mark} 2 IN IP4 127.0.0.1\r\ns=é€😀\r\n` });

export const candidate = (number) => ({
  candidate: `candidate:${number} 1 udp 2122260223 192.0.2.${number} 5000 typ host`,
  sdpMid: '0',
  sdpMLineIndex: 0,
  usernameFragment: 'abcd',
});
