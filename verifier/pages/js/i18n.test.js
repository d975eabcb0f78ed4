// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counted, t } from './i18n.js';

test('a text with its facts', () => {
  assert.equal(t('common.name'), 'Sallyport');
  assert.equal(t('common.seconds_left.other', { count: 7 }), '7 seconds left');
});

test('counted takes the singular for one alone', () => {
  const left = /** @param {number} n */ (n) => counted('common.seconds_left.one', 'common.seconds_left.other', n);
  assert.deepEqual([0, 1, 2].map(left), ['0 seconds left', '1 second left', '2 seconds left']);
});

test('what is missing throws', () => {
  assert.throws(() => t('common.seconds_left.one'), /\{count\}/);
  // @ts-expect-error a key that is not there
  assert.throws(() => t('common.nothing'), /common\.nothing/);
});

test('a fact is put in as it is', () => {
  assert.equal(t('common.seconds_left.one', { count: '{count} $& <b>' }), '{count} $& <b> second left');
});
