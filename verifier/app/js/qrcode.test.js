// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { encode } from './qrcode.js';

// Made by another implementation, rsc.io/qr, which the verifier uses.
const vectors = JSON.parse(readFileSync(new URL('../testdata/qr.json', import.meta.url), 'utf8'));

test('the same modules as another implementation', () => {
  assert.ok(vectors.length >= 5);
  for (const { text, mask, rows } of vectors) assert.deepEqual(encode(text, mask), rows, `${rows.length} modules: ${text.slice(0, 20)}`);
});

test('a mask is chosen', () => {
  const text = 'otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ';
  const all = Array.from({ length: 8 }, (_, mask) => encode(text, mask).join('\n'));
  assert.ok(all.includes(encode(text).join('\n')));
  assert.equal(new Set(all).size, 8);
});

test('what is too long is refused', () => {
  assert.throws(() => encode('x'.repeat(1000)), RangeError);
});
