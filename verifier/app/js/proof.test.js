// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fromBase64, fromBase64url, fromUTF8, utf8 } from './bytes.js';
import { keyID, newSealingKey, newSigningKey, seal, unseal } from './keys.js';
import { answerPayload, authorization, newID, proofPayload, sign } from './proof.js';

test('the payload of a proof', async () => {
  const payload = await proofPayload({
    kid: 'DP1', aud: 'https://v.example:8443', method: 'GET', path: '/sallyport/v1/authenticator/transactions?wait=25&seen=A', body: utf8(''), iat: 1767225540, jti: 'x',
  });
  assert.equal(
    payload,
    '{"v":1,"kid":"DP1","aud":"https://v.example:8443","htm":"GET","htu":"/sallyport/v1/authenticator/transactions?wait=25&seen=A","iat":1767225540,"jti":"x","bsh":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}',
  );
});

test('the payload of an answer binds the bytes of the context', async () => {
  const base = { aud: 'https://v.example', txid: 'T', context: '', iat: 5 };
  assert.equal(
    await answerPayload({ ...base, decision: 'approve', digits: '123456' }),
    '{"v":1,"aud":"https://v.example","txid":"T","context":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU","decision":"approve","digits":"123456","iat":5}',
  );
  assert.ok(!(await answerPayload({ ...base, decision: 'deny', digits: '' })).includes('digits'));
  const one = JSON.parse(await answerPayload({ ...base, context: '{"a":1}', decision: 'deny' }));
  const other = JSON.parse(await answerPayload({ ...base, context: '{"a": 1}', decision: 'deny' }));
  assert.notEqual(one.context, other.context);
});

test('a signature is a compact JWS that the public key opens', async () => {
  const { privateKey, publicKey, spki } = await newSigningKey();
  assert.equal(privateKey.extractable, false);
  await assert.rejects(crypto.subtle.exportKey('pkcs8', privateKey));
  const jws = await sign(privateKey, '{"v":1}');
  const [header, payload, signature, ...rest] = jws.split('.');
  assert.equal(rest.length, 0);
  assert.equal(fromUTF8(fromBase64url(header)), '{"alg":"ES256"}');
  assert.equal(fromUTF8(fromBase64url(payload)), '{"v":1}');
  const key = await crypto.subtle.importKey('spki', fromBase64(publicKey), { name: 'ECDSA', namedCurve: 'P-256' }, false, ['verify']);
  const input = utf8(`${header}.${payload}`);
  const algorithm = { name: 'ECDSA', hash: 'SHA-256' };
  assert.ok(await crypto.subtle.verify(algorithm, key, fromBase64url(signature), input));
  assert.ok(!(await crypto.subtle.verify(algorithm, key, fromBase64url(signature), utf8(`${header}.x`))));
  assert.match(await keyID('AK', spki), /^AK[A-Z2-7]{18}$/);
  const request = { kid: 'a', aud: 'b', method: 'GET', path: '/', body: utf8(''), iat: 1, jti: newID() };
  assert.match(await authorization(privateKey, request), /^Sallyport [\w-]+\.[\w-]+\.[\w-]+$/);
  assert.notEqual(newID(), newID());
});

test('sealed values open for their purpose only', async () => {
  const key = await newSealingKey();
  assert.equal(key.extractable, false);
  const sealed = await seal(key, 'totp 1', utf8('secret'));
  assert.equal(fromUTF8(await unseal(key, 'totp 1', sealed)), 'secret');
  await assert.rejects(unseal(key, 'totp 2', sealed));
  await assert.rejects(unseal(await newSealingKey(), 'totp 1', sealed));
  sealed[sealed.length - 1] ^= 1;
  await assert.rejects(unseal(key, 'totp 1', sealed));
  assert.notDeepEqual(await seal(key, 'totp 1', utf8('secret')), await seal(key, 'totp 1', utf8('secret')));
});
