// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { codeOf, next } from './state.js';

const code = `se1.${'aB3_-'.repeat(6)}xy.`;

test('the code of a link', () => {
  assert.equal(codeOf(`#${code}`), code);
  assert.equal(codeOf(`#${code.slice(0, -1)}`), code.slice(0, -1));
  for (const other of ['', '#', '#main', code.slice(0, -2), `#sa1${code.slice(3)}`, `#${code}x`, `#${code}\n`, '#se1.<script>.']) {
    assert.equal(codeOf(other), '', other);
  }
});

test('the page of the phone goes on to one place only', () => {
  assert.equal(next('waiting'), '');
  for (const state of ['done', 'none', 'over', 'https://evil.example/']) {
    assert.equal(next(state), '/enroll/setup');
  }
});
