// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Refusal, Unreachable } from './api.js';
import { Listener, limits } from './listen.js';

/** Lets everything run that can. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A clock whose sleeps end when they are told to. */
class Sleeps {
  constructor() {
    /** @type {{ms: number, end: () => void}[]} */
    this.pending = [];
    this.time = 0;
  }

  /**
   * @param {number} ms
   * @param {AbortSignal} signal
   * @returns {Promise<void>}
   */
  sleep(ms, signal) {
    return new Promise((resolve) => {
      const one = { ms, end: () => { this.pending = this.pending.filter((p) => p !== one); resolve(); } };
      if (signal.aborted) return resolve();
      this.pending.push(one);
      signal.addEventListener('abort', one.end);
    });
  }

  /**
   * Ends the sleep of that length, and says that there is one.
   *
   * @param {(ms: number) => boolean} is
   */
  async end(is) {
    await settle();
    const one = this.pending.find(({ ms }) => is(ms));
    assert.ok(one, `no such sleep: ${this.pending.map((p) => p.ms)}`);
    this.time += one.ms;
    one.end();
    await settle();
  }

  lengths() {
    return this.pending.map((p) => p.ms);
  }
}

const tx = (/** @type {string} */ txid) => ({ txid, context: '{}', verified: true, created: 0, expires: 60 });
const list = (/** @type {string[]} */ ...ids) => ({ event: 'transactions', data: JSON.stringify({ transactions: ids.map(tx) }) });

/** A stream that the test feeds. */
class Stream {
  /** @param {AbortSignal} signal */
  constructor(signal) {
    this.signal = signal;
    /** @type {any[]} */
    this.queue = [];
    this.wake = () => {};
    signal.addEventListener('abort', () => this.wake());
  }

  /** @param {any} item an event, null for a sign of life, an Error, or 'close' */
  async give(item) {
    this.queue.push(item);
    this.wake();
    await settle();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.queue.length === 0 && !this.signal.aborted) await new Promise((resolve) => { this.wake = () => resolve(undefined); });
      if (this.signal.aborted) throw new DOMException('aborted', 'AbortError');
      const item = this.queue.shift();
      if (item === 'close') return;
      if (item instanceof Error) throw item;
      yield item;
    }
  }
}

/** @param {(wait: number, seen: string[], signal: AbortSignal) => Promise<unknown>} [poll] */
function make(poll = () => Promise.reject(new Unreachable())) {
  const sleeps = new Sleeps();
  /** @type {Stream[]} */
  const streams = [];
  /** @type {string[]} */
  const states = [];
  /** @type {string[][]} */
  const lists = [];
  const source = {
    stream: (/** @type {AbortSignal} */ signal) => {
      const stream = new Stream(signal);
      streams.push(stream);
      return stream;
    },
    poll,
  };
  const environment = { sleep: (/** @type {number} */ ms, /** @type {AbortSignal} */ s) => sleeps.sleep(ms, s), random: () => 1, now: () => sleeps.time };
  const listener = new Listener(source, environment, (l) => lists.push(l.map((t) => t.txid)), (s) => states.push(s));
  const done = listener.run();
  return { listener, sleeps, streams, states, lists, done };
}

test('lists come by the stream; a stream that is renewed is opened again at once', async () => {
  const { listener, streams, states, lists, sleeps, done } = make();
  await streams[0].give(list('A'));
  await streams[0].give(null);
  await streams[0].give(list());
  await streams[0].give({ event: 'end', data: '{"reason":"renew"}' });
  assert.equal(streams.length, 2);
  assert.deepEqual(lists, [['A'], []]);
  assert.deepEqual(states, ['connecting', 'stream']);
  assert.deepEqual(sleeps.lengths(), [limits.firstEvent]);
  listener.stop();
  await done;
  assert.deepEqual(sleeps.lengths(), []);
});

test('a network that is away: pauses that double, and no more than 30 s', async () => {
  const { listener, streams, states, sleeps, done } = make();
  for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    await streams[streams.length - 1].give(new Unreachable());
    assert.deepEqual(sleeps.lengths(), [pause]);
    assert.equal(states[states.length - 1], 'offline');
    await sleeps.end((ms) => ms === pause);
  }
  await streams[streams.length - 1].give(new Unreachable());
  const before = streams.length;
  listener.hurry();
  await settle();
  assert.equal(streams.length, before + 1, 'the pause did not end when the network came back');
  await streams[before].give(list());
  assert.equal(states[states.length - 1], 'stream');
  listener.stop();
  await done;
});

test('a connection that breaks off once is not a network that is away', async () => {
  const { listener, streams, states, sleeps, done } = make();
  await streams[0].give(list());
  await streams[0].give(new Unreachable());
  assert.deepEqual(states, ['connecting', 'stream', 'connecting']);
  await sleeps.end((ms) => ms === 1000);
  await streams[1].give(new Unreachable());
  assert.equal(states[states.length - 1], 'offline');
  await sleeps.end((ms) => ms === 2000);
  await streams[2].give(list());
  assert.equal(states[states.length - 1], 'stream');
  listener.stop();
  await done;
});

test('a verifier that refuses is not away', async () => {
  const { listener, streams, states, sleeps, done } = make();
  await streams[0].give(list());
  for (const pause of [1000, 2000]) {
    await streams[streams.length - 1].give(new Refusal(42901, 'too many', ''));
    assert.equal(states.includes('offline'), false);
    assert.deepEqual(sleeps.lengths(), [pause]);
    await sleeps.end((ms) => ms === pause);
  }
  listener.stop();
  await done;
});

test('silence ends a stream', async () => {
  const { listener, streams, states, sleeps, done } = make();
  await streams[0].give(list());
  await sleeps.end((ms) => ms === limits.silence);
  assert.ok(streams[0].signal.aborted);
  assert.equal(states[states.length - 1], 'connecting');
  listener.stop();
  await done;
});

test('a stream that does not get through: long polling, then the stream again', async () => {
  /** @type {{wait: number, seen: string[], answer: (v: unknown) => void}[]} */
  const polls = [];
  const { listener, streams, states, lists, sleeps, done } = make((wait, seen) => new Promise((answer) => polls.push({ wait, seen, answer })));
  for (const pause of [1000, 2000]) {
    await sleeps.end((ms) => ms === limits.firstEvent);
    await sleeps.end((ms) => ms === pause);
  }
  await sleeps.end((ms) => ms === limits.firstEvent);
  assert.equal(polls.length, 1);
  assert.equal(polls[0].wait, 0, 'what is open must come at once');
  polls[0].answer({ transactions: [tx('A')] });
  await settle();
  assert.deepEqual(polls.map((p) => [p.wait, p.seen]).slice(1), [[25, ['A']]]);
  assert.deepEqual(lists, [['A']]);
  assert.equal(states[states.length - 1], 'polling');
  sleeps.time += limits.retryStream;
  const before = streams.length;
  polls[1].answer({ transactions: [] });
  await settle();
  assert.equal(streams.length, before + 1);
  listener.stop();
  await done;
});

test('a phone that wakes: a stream that was quiet is opened again at once, a lively one is not', async () => {
  const { listener, streams, sleeps, lists, states, done } = make();
  await streams[0].give(list('A'));
  sleeps.time += limits.quiet - 1;
  listener.hurry();
  await settle();
  assert.equal(streams.length, 1);
  sleeps.time += 1;
  listener.hurry();
  await settle();
  assert.ok(streams[0].signal.aborted);
  assert.equal(streams.length, 2);
  await streams[1].give(list('B'));
  assert.deepEqual(lists, [['A'], ['B']]);
  assert.deepEqual(states, ['connecting', 'stream'], 'a connection that was ended on purpose is none that was lost');
  listener.stop();
  await done;
});

test('a phone that wakes while it polls asks at once what is open', async () => {
  /** @type {{wait: number, signal: AbortSignal, answer: (v: unknown) => void}[]} */
  const polls = [];
  const { listener, sleeps, streams, done } = make((wait, _, signal) => new Promise((answer, fail) => {
    polls.push({ wait, signal, answer });
    signal.addEventListener('abort', () => fail(signal.reason));
  }));
  for (const pause of [1000, 2000]) {
    await sleeps.end((ms) => ms === limits.firstEvent);
    await sleeps.end((ms) => ms === pause);
  }
  await sleeps.end((ms) => ms === limits.firstEvent);
  polls[0].answer({ transactions: [] });
  await settle();
  assert.equal(polls[1].wait, limits.wait);
  const before = streams.length;
  listener.hurry();
  await settle();
  assert.ok(polls[1].signal.aborted);
  assert.equal(polls[2].wait, 0);
  assert.deepEqual(sleeps.lengths(), []);
  polls[2].answer({ transactions: [] });
  await settle();
  assert.equal(streams.length, before + 1, 'the network may be another one: the stream is tried again');
  listener.stop();
  await done;
});

test('a verifier without a stream is polled', async () => {
  const { listener, streams, sleeps, states, done } = make(() => Promise.resolve({ transactions: [] }));
  for (const pause of [1000, 2000]) {
    await streams[streams.length - 1].give(new Refusal(40401, 'not found', ''));
    await sleeps.end((ms) => ms === pause);
  }
  await streams[streams.length - 1].give(new Refusal(40401, 'not found', ''));
  assert.equal(states[states.length - 1], 'polling');
  assert.deepEqual(sleeps.lengths(), [limits.shortPause], 'answers that come at once must not be asked for at once');
  listener.stop();
  await done;
});

test('too many tabs: short polling, no fight over streams', async () => {
  let polls = 0;
  const { listener, streams, sleeps, done } = make(() => { polls++; return Promise.resolve({ transactions: [] }); });
  await streams[0].give(list());
  await streams[0].give({ event: 'end', data: '{"reason":"replaced"}' });
  assert.equal(streams.length, 1);
  assert.equal(polls, 1);
  await sleeps.end((ms) => ms === limits.shortPause);
  assert.equal(polls, 2);
  listener.stop();
  await done;
});

test('a key that is gone ends it', async () => {
  for (const last of [new Refusal(40107, 'proof', ''), { event: 'end', data: '{"reason":"removed"}' }]) {
    const { streams, states, sleeps, done } = make();
    await streams[0].give(last);
    await done;
    assert.equal(states[states.length - 1], 'removed');
    assert.deepEqual(sleeps.lengths(), []);
  }
});

test('paused while hidden, back at once', async () => {
  const { listener, streams, states, done } = make();
  await streams[0].give(list());
  listener.setPaused(true);
  await settle();
  assert.ok(streams[0].signal.aborted);
  assert.equal(states[states.length - 1], 'paused');
  listener.setPaused(false);
  await settle();
  assert.equal(streams.length, 2);
  await streams[1].give(list('B'));
  assert.equal(states[states.length - 1], 'stream');
  listener.setPaused(true);
  await settle();
  listener.stop();
  await done;
});

test('what makes no sense counts as away', async () => {
  const { listener, streams, states, sleeps, done } = make();
  await streams[0].give({ event: 'transactions', data: '{"transactions":7}' });
  assert.equal(states[states.length - 1], 'offline');
  assert.deepEqual(sleeps.lengths(), [1000]);
  listener.stop();
  await done;
});
