// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { base64url } from './bytes.js';
import { Clock } from './clock.js';
import { LinkError, parseActivation, validCode } from './link.js';
import { readContext, readTransactions, typedDigits } from './request.js';
import { EventParser } from './sse.js';
import { visible } from './visible.js';

const code = `sa1.${base64url(new Uint8Array(24).fill(1))}.`;
const pinned = code + base64url(new Uint8Array(32).fill(2));
const own = 'https://v.example:8443';
const partner = 'https://partner.example';

test('activation links', () => {
  for (const text of [code, code.slice(0, -1), `${own}/sallyport/activate#${code.slice(0, -1)}`, ` ${code}\n`, `${own}/sallyport/activate#${code}`, `${own}/app/#activate=${code}`]) {
    assert.deepEqual(parseActivation(text, own, [partner]), { origin: own, code }, text);
  }
  assert.deepEqual(parseActivation(`${partner}/sallyport/activate#${pinned}`, own, [partner]), { origin: partner, code: pinned });
});

test('activation links that are none', () => {
  const bad = ['', 'x', 'sa1.a.', 'sj1' + code.slice(3), `${own}/other#${code}`, `${own}/sallyport/activate`, `http://v.example/sallyport/activate#${code}`,
    `https://u@v.example:8443/sallyport/activate#${code}`, `javascript:alert(1)//sallyport/activate#${code}`, `${own}/sallyport/activate#${code}AA`];
  for (const text of bad) {
    assert.throws(() => parseActivation(text, own, []), (e) => e instanceof LinkError && e.code === 'form', text);
  }
  assert.throws(() => parseActivation(`${partner}/sallyport/activate#${code}`, own, []), (e) => e instanceof LinkError && e.code === 'foreign' && e.origin === partner);
  assert.ok(validCode(pinned) && !validCode(`${pinned}.`));
});

test('the clock', () => {
  const clock = new Clock(() => 1_000_000_000_000);
  assert.equal(clock.hear(null), false);
  assert.equal(clock.known, false);
  assert.equal(clock.hear(new Date(1_000_000_001_000).toUTCString()), false);
  assert.equal(clock.now(), 1_000_000_000_000);
  assert.equal(clock.hear(new Date(1_000_000_600_000).toUTCString()), true);
  assert.equal(clock.seconds(), 1_000_000_600);
  assert.equal(clock.hear(new Date(1_000_000_600_000).toUTCString()), false);
  assert.equal(clock.hear(new Date(1_000_000_000_000).toUTCString()), true);
  assert.equal(clock.offset, 0);
});

test('the event stream, however it is cut', () => {
  const text = ': hello\n\nevent: transactions\ndata: {"a":\r\ndata: 1}\r\n\r\nid: 5\ndata:x\n\nevent: lost\n\ndata: y\n\ndata: not complete';
  const want = [
    { event: 'transactions', data: '{"a":\n1}' },
    { event: 'message', data: 'x' },
    { event: 'message', data: 'y' },
  ];
  for (let size = 1; size < text.length; size++) {
    const parser = new EventParser();
    const got = [];
    for (let at = 0; at < text.length; at += size) got.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(got, want, `in pieces of ${size}`);
  }
  const parser = new EventParser();
  assert.throws(() => { for (;;) parser.push('x'.repeat(1 << 16)); }, RangeError);
});

test('requests', () => {
  const context = JSON.stringify({ v: 1, txid: 'T', username: 'alice', hostname: 7, pushinfo: { a: 'b', c: 1 }, later: true });
  const [tx] = readTransactions({ transactions: [{ txid: 'T', context, created: 1, expires: 61 }] });
  assert.equal(tx.verified, true, 'what is not said to be plain must be taken as verified');
  assert.deepEqual(readContext(tx), { username: 'alice', display_username: '', type: '', application: '', hostname: '', ipaddr: '', pushinfo: [['a', 'b']] });
  for (const data of [null, {}, { transactions: {} }, { transactions: [null] }, { transactions: [{ txid: '', context: '' }] }, { transactions: [{ txid: 'T', context: '{}' }] }]) {
    assert.throws(() => readTransactions(data), TypeError);
  }
  for (const text of ['', '[]', 'null', '{"v":2,"txid":"T"}', '{"v":1,"txid":"U"}', '{"v":1}']) {
    assert.throws(() => readContext({ ...tx, context: text }), TypeError, text);
  }
});

test('digits', () => {
  assert.equal(typedDigits(' 123 456'), '123456');
  assert.equal(typedDigits('123'), '123');
  for (const text of ['', '12', '1234567', '12a', '١٢٣']) assert.equal(typedDigits(text), '', text);
});

test('what hides in a text is shown', () => {
  assert.equal(visible('a\u202Eb\u0007\n\u200B'), 'a⟨U+202E⟩b⟨U+0007⟩⟨U+000A⟩⟨U+200B⟩');
  assert.equal(visible('Zoë 中 <b>'), 'Zoë 中 <b>');
  assert.equal(visible(undefined), '');
  assert.equal(Array.from(visible('x'.repeat(1000))).length, 257);
});
