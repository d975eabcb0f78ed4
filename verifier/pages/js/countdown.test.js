// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { secondsLeft } from './countdown.js';

test('seconds are rounded up, so that 0 means over', () => {
  assert.deepEqual([2000, 1999, 1001, 1000, 1, 0, -1, -5000].map((left) => secondsLeft(10_000 + left, 10_000)), [2, 2, 2, 1, 1, 0, 0, 0]);
});
