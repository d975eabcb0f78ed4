// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { utf8 } from './bytes.js';
import { hotp, parseLink, parseSecret, TokenError, tokenLink, totp } from './totp.js';

const seed = '1234567890';

test('HOTP: the values of RFC 4226, appendix D', async () => {
  const want = ['755224', '287082', '359152', '969429', '338314', '254676', '287922', '162583', '399871', '520489'];
  for (const [n, code] of want.entries()) assert.equal(await hotp(utf8(seed.repeat(2)), n, 6, 'SHA-1'), code);
});

test('TOTP: the values of RFC 6238, appendix B', async () => {
  /** @type {[number, string, string, string][]} */
  const table = [
    [59, '94287082', '46119246', '90693936'],
    [1111111109, '07081804', '68084774', '25091201'],
    [1111111111, '14050471', '67062674', '99943326'],
    [1234567890, '89005924', '91819424', '93441116'],
    [2000000000, '69279037', '90698825', '38618901'],
    [20000000000, '65353130', '77737706', '47863826'],
  ];
  for (const [at, sha1, sha256, sha512] of table) {
    for (const [hash, size, code] of /** @type {const} */ ([
      ['SHA-1', 20, sha1],
      ['SHA-256', 32, sha256],
      ['SHA-512', 64, sha512],
    ])) {
      const token = { issuer: '', label: '', secret: utf8(seed.repeat(7).slice(0, size)), digits: 8, period: 30, hash };
      assert.equal((await totp(token, at * 1000)).code, code, `${hash} at ${at}`);
    }
  }
});

test('what is left of a code', async () => {
  const token = parseLink('otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ');
  assert.equal((await totp(token, 30_000)).left, 30_000);
  assert.equal((await totp(token, 59_999)).left, 1);
});

test('links', () => {
  const token = parseLink('otpauth://totp/ACME%20Co:john%40example.org?secret=HXDMVJECJJWSRB3HWIZR4IFUGFTMXBOZ&issuer=ACME%20Co&algorithm=SHA256&digits=8&period=60');
  assert.equal(token.issuer, 'ACME Co');
  assert.equal(token.label, 'john@example.org');
  assert.equal(token.secret.length, 20);
  assert.deepEqual([token.hash, token.digits, token.period], ['SHA-256', 8, 60]);
  assert.deepEqual(parseLink(tokenLink(token)), token);

  const plain = parseLink(' OTPAUTH://totp/alice?secret=gezd gnbv gy3t qojq ');
  assert.deepEqual([plain.issuer, plain.label, plain.hash, plain.digits, plain.period], ['', 'alice', 'SHA-1', 6, 30]);
  assert.equal(parseLink('otpauth://totp/Big%3Aalice?secret=GEZDGNBVGY3TQOJQ').issuer, 'Big');
});

test('links that are refused, and why', () => {
  const cases = {
    'https://totp/x?secret=GEZDGNBVGY3TQOJQ': 'form',
    'otpauth://': 'form',
    'otpauth://yubi/x?secret=GEZDGNBVGY3TQOJQ': 'form',
    'otpauth://totp/%zz?secret=GEZDGNBVGY3TQOJQ': 'form',
    'otpauth://hotp/x?secret=GEZDGNBVGY3TQOJQ&counter=1': 'hotp',
    'otpauth://totp/x': 'secret',
    'otpauth://totp/x?secret=GEZDGNBV': 'secret',
    'otpauth://totp/x?secret=0189': 'secret',
    'otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&digits=5': 'digits',
    'otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&digits=6e0': 'digits',
    'otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&period=0': 'period',
    'otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&algorithm=MD5': 'hash',
  };
  for (const [link, code] of Object.entries(cases)) {
    assert.throws(() => parseLink(link), (e) => e instanceof TokenError && e.code === code, link);
  }
  assert.throws(() => parseSecret('1'), TokenError);
});
