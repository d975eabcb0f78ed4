// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { Refusal, Unreachable, clockOf, get, post } from './api.js';
import { fromBase64url, fromUTF8 } from './bytes.js';
import { newSigningKey } from './keys.js';
import { Session } from './session.js';
import { mergeHosts, numberAfter } from './vault.js';

const realFetch = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = realFetch;
});

/** @typedef {{url: string, method: string, headers: Record<string, string>, body: string|undefined, proof: any}} Sent */

/**
 * A verifier that answers by f; gives what was sent to it.
 *
 * @param {(sent: Sent, count: number) => {status?: number, body?: unknown, date?: string}} f
 * @returns {Sent[]}
 */
function verifier(f) {
  /** @type {Sent[]} */
  const all = [];
  globalThis.fetch = /** @type {any} */ (async (/** @type {string} */ url, /** @type {any} */ init) => {
    assert.equal(init.redirect, 'error', 'a proof is for one address');
    assert.equal(init.credentials, 'omit');
    const proof = JSON.parse(fromUTF8(fromBase64url(init.headers.Authorization.split('.')[1])));
    const sent = { url, method: init.method, headers: init.headers, body: init.body, proof };
    all.push(sent);
    const { status = 200, body = { stat: 'OK', response: {} }, date } = f(sent, all.length);
    return new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers: date ? { Date: date } : {} });
  });
  return all;
}

let count = 0;

/** A caller at a verifier that nobody has called before. */
async function caller() {
  const { privateKey } = await newSigningKey();
  return { id: 'DP1', url: `https://v${++count}.example`, key: privateKey };
}

const refused = (/** @type {number} */ code, detail = '') => ({ status: Math.floor(code / 100), body: { stat: 'FAIL', code, message: 'no', message_detail: detail } });

test('calls are proved with path, query and body', async () => {
  const sent = verifier(() => ({ body: { stat: 'OK', response: { a: 1 } } }));
  const who = await caller();
  assert.deepEqual(await get(who, '/transactions?wait=25&seen=A'), { a: 1 });
  assert.deepEqual(await post(who, '/self', { b: 2 }), { a: 1 });
  assert.equal(sent[0].url, `${who.url}/sallyport/v1/authenticator/transactions?wait=25&seen=A`);
  assert.deepEqual([sent[0].proof.aud, sent[0].proof.htm, sent[0].proof.htu], [who.url, 'GET', '/sallyport/v1/authenticator/transactions?wait=25&seen=A']);
  assert.equal(sent[1].body, '{"b":2}');
  assert.equal(sent[1].headers['Content-Type'], 'application/json');
  assert.notEqual(sent[0].proof.jti, sent[1].proof.jti);
});

test('the verifier\'s clock corrects the phone\'s, and the call is made again once', async () => {
  const ahead = 3600;
  const now = () => Math.floor(Date.now() / 1000);
  const sent = verifier(({ proof }) => ({
    ...(Math.abs(proof.iat - now() - ahead) > 300 ? refused(40107) : {}),
    date: new Date((now() + ahead) * 1000).toUTCString(),
  }));
  const who = await caller();
  await get(who, '/self');
  await get(who, '/self');
  assert.equal(sent.length, 3);
  assert.ok(Math.abs(clockOf(who.url).offset - ahead * 1000) < 5000);
});

test('a key that is not known is refused, and not asked for again and again', async () => {
  const sent = verifier(() => ({ ...refused(40107), date: new Date().toUTCString() }));
  await assert.rejects(get(await caller(), '/self'), (e) => e instanceof Refusal && e.code === 40107);
  assert.equal(sent.length, 1);
});

test('answers that are no answers', async () => {
  const who = await caller();
  for (const body of ['<html>', '', '[]', '{"stat":"FAIL"}', '{"stat":"FAIL","code":"x"}']) {
    verifier(() => ({ body }));
    await assert.rejects(get(who, '/self'), Unreachable, body);
  }
  globalThis.fetch = () => Promise.reject(new TypeError('Failed to fetch'));
  await assert.rejects(get(who, '/self'), Unreachable);
});

/** A network that takes what it is given and never answers; gives the signal of each call. */
function silence() {
  /** @type {AbortSignal[]} */
  const signals = [];
  globalThis.fetch = /** @type {any} */ ((/** @type {string} */ _, /** @type {{signal: AbortSignal}} */ { signal }) => {
    signals.push(signal);
    return new Promise((_resolve, reject) => {
      if (signal.aborted) reject(signal.reason);
      else signal.addEventListener('abort', () => reject(signal.reason));
    });
  });
  return signals;
}

/**
 * Time limits as they were asked for, each over at once.
 *
 * @param {import('node:test').TestContext} context
 */
function timeouts(context) {
  /** @type {number[]} */
  const asked = [];
  context.mock.method(AbortSignal, 'timeout', (/** @type {number} */ ms) => {
    asked.push(ms);
    const one = new AbortController();
    setImmediate(() => one.abort(new DOMException('over', 'TimeoutError')));
    return one.signal;
  });
  return asked;
}

test('a network that swallows calls is one that is away', async (context) => {
  const asked = timeouts(context);
  silence();
  const who = await caller();
  await assert.rejects(get(who, '/self'), Unreachable);
  await assert.rejects(post(who, '/self', {}), Unreachable);
  await assert.rejects(get(who, '/transactions', { limit: 35_000 }), Unreachable);
  assert.deepEqual(asked, [15_000, 15_000, 35_000]);
});

test('what the caller calls off is no fault of the network', async () => {
  const signals = silence();
  const off = new AbortController();
  const call = get(await caller(), '/self', { signal: off.signal });
  while (signals.length === 0) await new Promise((resolve) => setImmediate(resolve));
  off.abort();
  await assert.rejects(call, (e) => e instanceof DOMException && e.name === 'AbortError');
});

const tx = (/** @type {string} */ txid) => ({
  txid, context: JSON.stringify({ v: 1, txid, username: 'alice' }), verified: true, created: 0, expires: Math.floor(Date.now() / 1000) + 60,
});

async function session() {
  const who = await caller();
  const account = /** @type {any} */ ({ ...who, credential: null });
  return new Session(account, { program: 'test/1', platform: 'Linux' });
}

test('an answer binds transaction, context and digits, and is sent once', async () => {
  const s = await session();
  s.hear([tx('A')]);
  const [r] = s.waiting();
  const sent = verifier(() => ({ body: { stat: 'OK', response: { txid: 'A', decision: 'approve' } } }));
  await Promise.all([s.answer(r, 'approve', '123456'), s.answer(r, 'approve', '123456')]);
  assert.equal(sent.length, 1);
  assert.equal(r.state, 'approved');
  const answer = JSON.parse(fromUTF8(fromBase64url(JSON.parse(sent[0].body ?? '').answer.split('.')[1])));
  assert.deepEqual([answer.txid, answer.aud, answer.decision, answer.digits], ['A', s.account.url, 'approve', '123456']);
});

test('digits go with approvals only', async () => {
  const s = await session();
  s.hear([tx('A')]);
  const sent = verifier(() => ({ body: { stat: 'OK', response: { txid: 'A', decision: 'fraud' } } }));
  await s.answer(s.waiting()[0], 'fraud', '123456');
  const answer = JSON.parse(fromUTF8(fromBase64url(JSON.parse(sent[0].body ?? '').answer.split('.')[1])));
  assert.equal(answer.decision, 'fraud');
  assert.ok(!('digits' in answer));
});

test('an answer that gets no answer leaves the request open, while there is time', async (context) => {
  const asked = timeouts(context);
  silence();
  const s = await session();
  const [soon, late] = [{ ...tx('A'), expires: Math.floor(Date.now() / 1000) + 10 }, tx('B')];
  s.hear([soon, late]);
  for (const r of s.waiting()) {
    await s.answer(r, 'approve', '123456');
    assert.equal(r.state, 'open');
    assert.ok(r.error instanceof Unreachable);
  }
  assert.ok(asked[0] > 1000 && asked[0] <= 10_000, `${asked[0]} ms for a request that has 10 s left`);
  assert.equal(asked[1], 15_000);
});

test('a request runs out while an answer is under way; its answer has the last word', async () => {
  const s = await session();
  s.hear([tx('A')]);
  const [r] = s.waiting();
  /** @type {(response: Response) => void} */
  let answer = () => {};
  const asked = new Promise((begun) => {
    globalThis.fetch = () => new Promise((resolve) => { answer = resolve; begun(undefined); });
  });
  const answering = s.answer(r, 'approve', '123456');
  await asked;
  r.tx = { ...r.tx, expires: 1 };
  s.tick();
  assert.equal(r.state, 'expired');
  answer(new Response(JSON.stringify({ stat: 'OK', response: { decision: 'approve' } })));
  await answering;
  assert.equal(r.state, 'approved');
});

test('what becomes of an answer', async () => {
  /** @type {[{status?: number, body?: unknown}, string, boolean][]} */
  const cases = [
    [{ body: { stat: 'OK', response: { decision: 'deny' } } }, 'denied', false],
    [refused(40331), 'elsewhere', true],
    [refused(40332), 'expired', true],
    [refused(40333), 'canceled', true],
    [refused(40334, '2 tries left'), 'open', true],
    [{ body: '<html>' }, 'open', true],
  ];
  for (const [answer, state, failed] of cases) {
    const s = await session();
    s.hear([tx('A')]);
    const r = [...s.requests.values()][0];
    verifier(() => answer);
    await s.answer(r, 'approve', '000000');
    assert.deepEqual([r.state, r.error !== null], [state, failed], JSON.stringify(answer));
    assert.equal(r.byDigits, state === 'denied');
  }
});

test('what the list says of requests', async () => {
  const s = await session();
  const late = { ...tx('B'), expires: Math.floor(Date.now() / 1000) - 1 };
  s.hear([tx('A'), late]);
  s.hear([tx('C')]);
  assert.deepEqual([...s.requests].map(([id, r]) => [id, r.state]), [['A', 'elsewhere'], ['B', 'expired'], ['C', 'open']]);
  s.answeredInOtherTab('C', /** @type {any} */ ('open or whatever'));
  assert.equal(s.requests.get('C')?.state, 'open');
  s.answeredInOtherTab('C', 'approved');
  assert.equal(s.requests.get('C')?.state, 'approved');
  s.forgetOver();
  assert.equal(s.requests.size, 0);
});

test('of requests that are over the last ten are kept', async () => {
  const s = await session();
  for (let i = 0; i < 15; i++) s.hear([tx(`T${i}`)]);
  s.hear([]);
  assert.deepEqual([...s.requests.keys()], Array.from({ length: 10 }, (_, i) => `T${i + 5}`));
});

test('a request that describes another one has no context', async () => {
  const s = await session();
  s.hear([{ ...tx('A'), context: tx('B').context }]);
  assert.equal(s.waiting()[0].context, null);
});

test('a mistyped number of an offline code is not gone on from', () => {
  for (const [kept, shown, next] of [[4, 4, 5], [4, 2, 4], [4, 23, 24], [4, 24, 4], [4, 999_999, 4]]) {
    assert.equal(numberAfter(kept, shown), next, `${shown} after ${kept}`);
  }
});

test('numbers of offline codes never go back', () => {
  const host = { host_id: 'HO1', name: 'db1', label: 'db1-1', user_id: 'DU1', username: 'alice', generation: 1, edition: 1, next: 4, issued: 0, until: 0 };
  assert.equal(mergeHosts([], [host])[0].number, 4);
  assert.equal(mergeHosts([{ ...host, number: 9 }], [host])[0].number, 9);
  assert.equal(mergeHosts([{ ...host, number: 2 }], [host])[0].number, 4);
  assert.equal(mergeHosts([{ ...host, number: 9 }], [{ ...host, edition: 2, next: 0 }])[0].number, 0);
});

test('user verification whose registration was answered into the void is found again', async () => {
  const s = await session();
  let registered = true;
  const sent = verifier(({ url }) => {
    if (url.endsWith('/self')) return { body: { stat: 'OK', response: { user_verification: { registered, available: true } } } };
    if (url.endsWith('/challenge')) {
      return { body: { stat: 'OK', response: { options: { challenge: 'AA', rpId: 'v.example', allowCredentials: [{ type: 'public-key', id: 'AQID' }] } } } };
    }
    return refused(40337);
  });
  let kept = 0;
  s.addEventListener('credential', () => kept++);
  assert.equal(s.verified, false);
  s.hear([tx('A')]);
  const [r] = s.waiting();
  await s.answer(r, 'approve', '123456');
  assert.equal(r.state, 'open');
  assert.deepEqual(s.account.credential, { id: 'AQID', rpId: 'v.example' });
  assert.equal(s.verified, true);
  assert.deepEqual(sent.map(({ url }) => url.split('/').at(-1)), ['A', 'self', 'challenge']);
  await s.announce();
  assert.equal(kept, 1, 'what is agreed upon is not asked for again');
  registered = false;
  await s.announce();
  assert.deepEqual([s.account.credential, s.verified, kept], [null, false, 2]);
});
