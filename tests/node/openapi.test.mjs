// The description of the HTTP API, as served, against the schema of OpenAPI 3.1 itself.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Server } from './server.mjs';

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.stop());

test('the document is valid OpenAPI 3.1', async () => {
  const reply = await fetch(`${server.http}/api/openapi.json`);
  assert.equal(reply.status, 200);
  const document = await reply.json();
  assert.match(document.openapi, /^3\.1\./);
  const validator = new Validator();
  const { valid, errors } = await validator.validate(document);
  assert.ok(valid, JSON.stringify(errors, null, 1));
  assert.equal(validator.version, '3.1');
});

test('the validator finds what is wrong', async () => {
  const document = await (await fetch(`${server.http}/api/openapi.json`)).json();
  document.paths['/api/ice'].get.responses = 'none';
  const { valid } = await new Validator().validate(document);
  assert.equal(valid, false);
});
