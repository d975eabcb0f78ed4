// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digitsOf } from './digits.js';

test('digits are what is left of a pasted code', () => {
  assert.equal(digitsOf('123 456', 6), '123456');
  assert.equal(digitsOf(' 12-34-56\n', 6), '123456');
  assert.equal(digitsOf('1234567', 6), '123456');
  assert.equal(digitsOf('abc', 6), '');
});

test('digits of other keyboards count', () => {
  assert.equal(digitsOf('１２３４５６', 6), '123456');
  assert.equal(digitsOf('٠١٢٣٤٥', 6), '012345');
  assert.equal(digitsOf('۴۵۶۷۸۹', 6), '456789');
});
