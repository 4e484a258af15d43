// Our server in the namespace `srv`, on the public segment.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { PREFIXES, SERVER } from './network.mjs';

const START_DEADLINE_MS = 20_000;

/** Where the probe asks: a second address and a second port show a mapping that depends on either. */
export const UDP = [`${SERVER.v4}:3478`, `${SERVER.v4second}:3478`, `${SERVER.v4}:3479`];
export const UDP6 = [`[${SERVER.v6}]:3478`, `[${SERVER.v6}]:3479`];

/**
 * Starts `binary serve` and waits until it says that it is ready. Files in `pages` of the directory are served, too. `others`
 * replaces flags by name. The server can be halted and started `again`, as an update does it.
 */
export async function startServer(binary, directory, others = {}) {
  const flags = { udp: [...UDP, ...UDP6], tcp: [], 'public-ip': [SERVER.v4, SERVER.v6], 'allow-peer': PREFIXES };
  for (const host of [SERVER.v4, `[${SERVER.v6}]`]) flags.tcp.push(`${host}:443`, `${host}:3478`);
  flags['static-dir'] = [join(directory, 'pages')];
  Object.assign(flags, others);
  mkdirSync(join(directory, 'pages'), { recursive: true });
  const listed = Object.entries(flags).flatMap(([flag, values]) => values.flatMap((value) => [`--${flag}`, value]));
  const serve = ['serve', '--log-format', 'json', '--state-dir', join(directory, 'state'), '--turns', 'always'];
  const command = ['netns', 'exec', 'srv', binary, ...serve, ...listed];
  const log = [];
  let { child, ready } = await start(command, log);
  return {
    ready,
    log,
    stop: () => stop(child),
    async again() {
      ({ child, ready } = await start(command, log));
    },
    /** Starts it again if it is down. */
    async ensure() {
      if (child.exitCode !== null || child.signalCode !== null) await this.again();
    },
  };
}

async function start(command, log) {
  const child = spawn('ip', command, { stdio: ['ignore', 'inherit', 'pipe'], env: { ...process.env, RELAIS_DRAIN_TIMEOUT: '0s' } });
  const ready = await new Promise((done, fail) => {
    const late = setTimeout(() => fail(new Error(`no ready line in ${START_DEADLINE_MS} ms`)), START_DEADLINE_MS);
    createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      if (!line.includes('"event":"ready"')) return;
      clearTimeout(late);
      done(JSON.parse(line));
    });
    child.on('exit', (code) => fail(new Error(`the server ended with ${code}:\n${log.join('\n')}`)));
  });
  return { child, ready };
}

function stop(child) {
  child.removeAllListeners('exit');
  return new Promise((done) => {
    child.on('exit', done);
    child.kill('SIGTERM');
  });
}
