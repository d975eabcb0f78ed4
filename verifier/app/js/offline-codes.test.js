// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { utf8 } from './bytes.js';
import { hostKey, offlineCode } from './offline-codes.js';

const id = { host_id: 'HOAAAABBBBCCCCDDDDEE', user_id: 'DU1', authenticator_id: 'DP1', generation: 2, edition: 1 };
const root = new Uint8Array(32).fill(7);

// The same value stands in internal/offlinecode.
test('the key of a host', async () => {
  const key = await hostKey(root, id);
  assert.equal(Buffer.from(key).toString('hex'), 'b4e554e4ad76a7b2e67eba7df276bf3d0eb81e5f1a84e141badc6d6879eba35e');
});

test('another key for each part', async () => {
  const seen = new Set();
  for (const other of [id, { ...id, host_id: 'HO' }, { ...id, user_id: 'DU1D', authenticator_id: 'P1' }, { ...id, generation: 21 }, { ...id, edition: 2 }]) {
    seen.add(Buffer.from(await hostKey(root, other)).toString('hex'));
  }
  assert.equal(seen.size, 5);
  await assert.rejects(hostKey(root.slice(1), id), RangeError);
});

test('codes: the values of RFC 4226, appendix D, to 8 digits', async () => {
  assert.equal(await offlineCode(utf8('12345678901234567890'), 0), '84755224');
  assert.equal(await offlineCode(utf8('12345678901234567890'), 7), '82162583');
  await assert.rejects(offlineCode(root, -1), RangeError);
});
