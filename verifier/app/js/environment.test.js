// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { recognise } from './environment.js';

test('platforms and browsers by the words that people use', () => {
  /** @type {[string, number, string|undefined, string, string][]} */
  const table = [
    ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1', 5, undefined, 'iPhone', 'Safari'],
    ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/136.0.0.0 Mobile/15E148 Safari/604.1', 5, undefined, 'iPhone', 'Chrome'],
    ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15', 5, undefined, 'iPad', 'Safari'],
    ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15', 0, undefined, 'macOS', 'Safari'],
    ['Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/136.0.0.0 Mobile Safari/537.36', 5, 'Android', 'Android', 'Chrome'],
    ['Mozilla/5.0 (Android 15; Mobile; rv:139.0) Gecko/139.0 Firefox/139.0', 5, undefined, 'Android', 'Firefox'],
    ['Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/136.0.0.0 Safari/537.36 Edg/136.0.0.0', 0, 'Windows', 'Windows', 'Edge'],
    ['Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0', 0, undefined, 'Linux', 'Firefox'],
    ['curl/8', 0, undefined, '', ''],
  ];
  for (const [userAgent, touchPoints, platform, wantPlatform, wantBrowser] of table) {
    assert.deepEqual(recognise({ userAgent, touchPoints, platform }), { platform: wantPlatform, browser: wantBrowser }, userAgent);
  }
});
