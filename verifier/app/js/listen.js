// SPDX-License-Identifier: Apache-2.0

/**
 * How an account learns of login requests while the app is open: by the event
 * stream; where that does not get through, by long polling; and where not even
 * that, by asking again and again.
 *
 *   STREAM ── 3 openings without a first event ──► LONG ── 3 failures ──► SHORT
 *      ▲                                            │                       │
 *      └──────────────── after 5 minutes ───────────┴───────────────────────┘
 *
 * Whatever fails is tried again after a pause that doubles up to 30 s; showing the
 * page, or the network coming back, ends the pause, and what may hang.
 */

import { Refusal, Unreachable, codes } from './api.js';
import { readTransactions } from './request.js';

/** @typedef {import('./request.js').Transaction} Transaction */
/** @typedef {'connecting'|'stream'|'polling'|'offline'|'removed'|'paused'} State */

/**
 * @typedef {object} Source
 * @property {(signal: AbortSignal) => AsyncIterable<import('./sse.js').Event|null>} stream
 *   events; null for each sign of life without one. Throws Refusal or Unreachable
 * @property {(wait: number, seen: string[], signal: AbortSignal) => Promise<unknown>} poll
 *   the body of the answer
 */

/**
 * @typedef {object} Environment
 * @property {(ms: number, signal: AbortSignal) => Promise<void>} sleep ends early, without an error, if signal does
 * @property {() => number} random from 0 to 1
 * @property {() => number} now milliseconds
 */

export const limits = {
  firstPause: 1000,
  longestPause: 30_000,
  /** Without a first event in this time, something between holds the stream back. */
  firstEvent: 15_000,
  /** The verifier sends something every 20 s. */
  silence: 50_000,
  /** A stream that was silent for so long is not trusted when there is hurry. */
  quiet: 25_000,
  failures: 3,
  wait: 25,
  shortPause: 5000,
  retryStream: 5 * 60_000,
};

/** A stream that does not get through, as opposed to a network that is away. */
class Blocked extends Error {}

export class Listener {
  /**
   * @param {Source} source
   * @param {Environment} environment
   * @param {(list: Transaction[]) => void} onList
   * @param {(state: State) => void} onState
   */
  constructor(source, environment, onList, onState) {
    this.source = source;
    this.env = environment;
    this.onList = onList;
    this.onState = onState;
    /** @type {State} */
    this.state = 'connecting';
    /** @type {'stream'|'long'|'short'} */
    this.way = 'stream';
    this.pause = limits.firstPause;
    this.failures = 0;
    this.leftStream = 0;
    /** @type {string[]|null} null: nothing has been heard yet */
    this.seen = null;
    this.stopped = false;
    this.paused = false;
    /** The attempt under way was ended to make another at once. */
    this.hurried = false;
    this.lastSign = 0;
    this.work = new AbortController();
    this.rest = new AbortController();
    this.alive = new AbortController();
    /** @type {(() => void)|null} */
    this.wake = null;
  }

  /** Listens until stop is called or the key is gone. */
  async run() {
    this.tell('connecting');
    while (!this.stopped) {
      if (this.paused) {
        this.tell('paused');
        await new Promise((resolve) => {
          this.wake = () => resolve(undefined);
        });
        this.wake = null;
        continue;
      }
      this.work = new AbortController();
      this.hurried = false;
      try {
        await this.once();
      } catch (e) {
        if (this.stopped || this.paused) continue;
        if (e instanceof Refusal && e.code === codes.proof) {
          this.stopped = true;
          this.tell('removed');
          return;
        }
        if (this.hurried) continue;
        await this.failed(e);
      }
    }
  }

  /** Stops for good. */
  stop() {
    this.stopped = true;
    this.interrupt();
  }

  /**
   * Pauses while the page is hidden, goes on at once when it is shown.
   *
   * @param {boolean} paused
   */
  setPaused(paused) {
    if (paused === this.paused) return;
    this.paused = paused;
    if (!paused) this.pause = limits.firstPause;
    this.interrupt();
  }

  /**
   * The network may be back, or be another one: ends a pause between two attempts, a
   * poll, and a stream that has been quiet. A connection of before a phone's sleep is
   * often dead, and nothing says so.
   */
  hurry() {
    this.pause = limits.firstPause;
    this.leftStream = -Infinity;
    if (this.way !== 'stream') this.seen = null; // what is open must come at once
    if (this.way !== 'stream' || this.env.now() - this.lastSign >= limits.quiet) {
      this.hurried = true;
      this.work.abort();
    }
    this.rest.abort();
  }

  interrupt() {
    this.work.abort();
    this.rest.abort();
    this.wake?.();
  }

  /** @param {State} state */
  tell(state) {
    if (state === this.state && state !== 'connecting') return;
    this.state = state;
    this.onState(state);
  }

  /** @param {unknown} data */
  heard(data) {
    const list = readTransactions(data);
    this.seen = list.map((tx) => tx.txid);
    this.failures = 0;
    this.pause = limits.firstPause;
    this.onList(list);
  }

  /** One stream, or one poll. */
  async once() {
    if (this.way !== 'stream' && this.seen !== null && this.env.now() - this.leftStream >= limits.retryStream) {
      this.way = 'stream';
      this.failures = limits.failures - 1; // one attempt, then back
    }
    if (this.way === 'stream') return this.stream();
    const wait = this.way === 'long' && this.seen !== null ? limits.wait : 0;
    const began = this.env.now();
    this.heard(await this.source.poll(wait, this.seen ?? [], this.work.signal));
    this.tell('polling');
    // Something between may answer instead of the verifier, at once and always the same.
    const hasty = wait > 0 && this.env.now() - began < limits.firstPause;
    if (this.way === 'short' || hasty) await this.sleep(limits.shortPause);
  }

  async stream() {
    const work = this.work;
    this.lastSign = this.env.now();
    let first = true;
    let late = false;
    const done = new AbortController();
    const watch = async () => {
      // Each sign of life ends the sleep; a sleep that ends by itself ends the stream.
      for (;;) {
        const sleep = this.alive;
        await this.env.sleep(first ? limits.firstEvent : limits.silence, sleep.signal);
        if (done.signal.aborted) return;
        if (!sleep.signal.aborted) {
          late = true;
          work.abort();
          return;
        }
      }
    };
    const sign = () => {
      this.lastSign = this.env.now();
      const before = this.alive;
      this.alive = new AbortController();
      before.abort();
    };
    this.alive = new AbortController();
    const watching = watch();
    try {
      for await (const event of this.source.stream(work.signal)) {
        if (event?.event === 'transactions') {
          first = false;
          this.heard(JSON.parse(event.data));
          this.tell('stream');
        }
        if (event?.event === 'end') return this.ended(JSON.parse(event.data)?.reason);
        sign();
      }
      throw first ? new Blocked() : new Unreachable();
    } catch (e) {
      if (late) throw first ? new Blocked() : new Unreachable(e);
      // A verifier that has no stream.
      if (e instanceof Refusal && [404, 405].includes(Math.floor(e.code / 100))) throw new Blocked();
      throw e;
    } finally {
      done.abort();
      sign();
      work.abort();
      await watching;
    }
  }

  /** @param {unknown} reason */
  ended(reason) {
    if (reason === 'renew') return;
    if (reason === 'removed') throw new Refusal(codes.proof, 'removed', '');
    if (reason === 'replaced') {
      // Too many tabs: opening another stream would only end the next one's.
      this.leave('short');
      return;
    }
    throw new Unreachable(reason);
  }

  /** @param {'long'|'short'} way */
  leave(way) {
    this.way = way;
    this.failures = 0;
    this.leftStream = this.env.now();
  }

  /** @param {unknown} e */
  async failed(e) {
    // A network that is away says nothing of the stream.
    if (this.way !== 'stream' || e instanceof Blocked) this.failures++;
    if (this.failures >= limits.failures) {
      if (this.way === 'stream') {
        this.leave('long');
        return;
      }
      this.way = 'short';
      this.failures = 0;
    }
    // A verifier that refuses is there, and one connection that breaks off, as with a
    // change of networks, says little: away is what cannot be reached again either.
    const worked = this.state === 'stream' || this.state === 'polling';
    if (!(e instanceof Blocked)) this.tell(e instanceof Refusal || worked ? 'connecting' : 'offline');
    await this.sleep(this.pause * (0.5 + this.env.random() / 2));
    this.pause = Math.min(this.pause * 2, limits.longestPause);
  }

  /** @param {number} ms */
  async sleep(ms) {
    this.rest = new AbortController();
    await this.env.sleep(ms, this.rest.signal);
  }
}
