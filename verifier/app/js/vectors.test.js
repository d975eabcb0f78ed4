// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { fromBase64, fromBase64url, fromUTF8, utf8 } from './bytes.js';
import { keyID } from './keys.js';
import { hostKey, offlineCode } from './offline-codes.js';
import { answerPayload, proofPayload, sign } from './proof.js';
import { answerChallenge } from './webauthn.js';

// The vectors of the protocol, which every authenticator has to meet.
const vectors = JSON.parse(readFileSync(new URL('../../../internal/agentapi/testdata/authenticator-v1.json', import.meta.url), 'utf8'));
const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };

/** @param {string} jws */
async function verifies(jws) {
  const key = await crypto.subtle.importKey('spki', fromBase64(vectors.key.public_key), algorithm, false, ['verify']);
  const [header, payload, signature] = jws.split('.');
  return crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, key, fromBase64url(signature), utf8(`${header}.${payload}`));
}

/** @param {string} jws */
const payloadOf = (jws) => fromUTF8(fromBase64url(jws.split('.')[1]));

test('the id of a key that activates', async () => {
  assert.equal(await keyID('AK', fromBase64(vectors.key.public_key)), vectors.key.activation_id);
});

test('a proof signs the same bytes', async () => {
  const { kid, aud, method, uri, body, payload, authorization } = vectors.proof;
  const got = await proofPayload({ kid, aud, method, path: uri, body: utf8(body), iat: payload.iat, jti: payload.jti });
  const jws = authorization.split(' ')[1];
  assert.equal(got, payloadOf(jws));
  assert.ok(await verifies(jws));
});

test('an answer signs the same bytes', async () => {
  const { txid, context, payload, jws, verification_challenge: challenge } = vectors.answer;
  const { aud, decision, digits, iat } = payload;
  assert.equal(await answerPayload({ aud, txid, context, decision, digits, iat }), payloadOf(jws));
  assert.ok(await verifies(jws));
  assert.deepEqual(await answerChallenge(jws), fromBase64url(challenge));
});

test('what is signed here opens with the public key', async () => {
  const key = await crypto.subtle.importKey('jwk', vectors.key.private_jwk, algorithm, false, ['sign']);
  const jws = await sign(key, '{"v":1}');
  assert.equal(jws.split('.')[0], vectors.answer.jws.split('.')[0]);
  assert.ok(await verifies(jws));
});

test('offline codes', async () => {
  const { root, key, codes, ...id } = vectors.offline;
  const got = await hostKey(Buffer.from(root, 'hex'), id);
  assert.equal(Buffer.from(got).toString('hex'), key);
  assert.ok(codes.length > 0);
  for (const [number, code] of codes.entries()) assert.equal(await offlineCode(got, number), code);
});
