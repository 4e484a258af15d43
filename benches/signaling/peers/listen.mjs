// What both peers share: a listener on a free port, the line that tells it, and a collection of garbage when asked.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';

// As long as Relais' own: with the default of 511 a storm would measure the kernel's retries.
const BACKLOG = 4096;

/** An HTTP server, or one with TLS when the bench gives a certificate. */
export function httpServer() {
  const { CERT, KEY } = process.env;
  return CERT ? createSecureServer({ cert: readFileSync(CERT), key: readFileSync(KEY) }) : createServer();
}

export function listen(server) {
  // Memory is compared after what is garbage has been collected.
  process.on('SIGUSR2', () => globalThis.gc?.());
  server.listen({ host: '127.0.0.1', port: 0, backlog: BACKLOG }, () => {
    console.log(JSON.stringify({ event: 'ready', port: server.address().port }));
  });
}
