// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outline } from './qr.js';

test('runs become rectangles within the quiet zone', () => {
  assert.equal(outline(['110', '000', '101']), 'M4 4h2v1h-2zM4 6h1v1h-1zM6 6h1v1h-1z');
});

test('what is no square of 0 and 1 is refused', () => {
  for (const rows of [[], ['1', '0'], ['12', '00'], ['"><', '000', '000']]) {
    assert.throws(() => outline(rows), TypeError);
  }
});
