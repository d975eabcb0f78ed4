// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workerURL } from './trusted.js';

test('the worker of the app', () => {
  for (const path of ['/app/sw.js', '/app/v/2/sw.js', '/app/sw.js?v=2']) {
    assert.equal(workerURL(path), path);
  }
});

test('nothing else', () => {
  for (const path of ['https://evil.example/app/sw.js', '//evil.example/app/sw.js', '/static/x.js', '/app/../x.js', 'data:text/javascript,0', '/app/', '']) {
    assert.throws(() => workerURL(path), TypeError);
  }
});
