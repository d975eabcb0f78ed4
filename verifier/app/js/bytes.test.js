// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { base32, base64, base64url, concat, fromBase32, fromBase64, fromBase64url, fromUTF8, utf8 } from './bytes.js';

// RFC 4648, section 10.
const vectors = /** @type {const} */ ([
  ['', '', ''],
  ['f', 'Zg==', 'MY'],
  ['fo', 'Zm8=', 'MZXQ'],
  ['foo', 'Zm9v', 'MZXW6'],
  ['foob', 'Zm9vYg==', 'MZXW6YQ'],
  ['fooba', 'Zm9vYmE=', 'MZXW6YTB'],
  ['foobar', 'Zm9vYmFy', 'MZXW6YTBOI'],
]);

test('the values of RFC 4648', () => {
  for (const [text, b64, b32] of vectors) {
    assert.equal(base64(utf8(text)), b64);
    assert.equal(fromUTF8(fromBase64(b64)), text);
    assert.equal(base64url(utf8(text)), b64.replaceAll('=', ''));
    assert.equal(fromUTF8(fromBase64url(b64.replaceAll('=', ''))), text);
    assert.equal(base32(utf8(text)), b32);
    assert.equal(fromUTF8(fromBase32(b32)), text);
  }
});

test('base64url has letters of its own', () => {
  const bytes = Uint8Array.of(0xfb, 0xff, 0xbf);
  assert.equal(base64url(bytes), '-_-_');
  assert.deepEqual(fromBase64url('-_-_'), bytes);
});

test('what is not exactly the form is refused', () => {
  for (const text of ['Zg', 'Zg=', 'Z===', 'Zm9v\n', '-_-_']) assert.throws(() => fromBase64(text), TypeError, text);
  for (const text of ['Zg==', 'Z', 'Zh', 'Zm9v ', '+/+/']) assert.throws(() => fromBase64url(text), TypeError, text);
  for (const text of ['M', 'MZX', 'MZXW6Y', '0189', 'MZXW6!']) assert.throws(() => fromBase32(text), TypeError, text);
});

test('base32 as people type it', () => {
  assert.equal(fromUTF8(fromBase32('mzxw 6ytb-OI======')), 'foobar');
});

test('concat', () => {
  assert.deepEqual(concat(Uint8Array.of(1), Uint8Array.of(), Uint8Array.of(2, 3)), Uint8Array.of(1, 2, 3));
});
