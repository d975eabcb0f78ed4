// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leftInWords, secondsLeft } from './countdown.js';

test('seconds are rounded up, so that 0 means over', () => {
  assert.deepEqual([2000, 1999, 1001, 1000, 1, 0, -1, -5000].map((left) => secondsLeft(10_000 + left, 10_000)), [2, 2, 2, 1, 1, 0, 0, 0]);
});

test('minutes while there are some', () => {
  assert.deepEqual([600, 541, 540, 91, 90, 1, 0].map(leftInWords),
    ['10 minutes left', '10 minutes left', '9 minutes left', '2 minutes left', '90 seconds left', '1 second left', '0 seconds left']);
});
