// SPDX-License-Identifier: Apache-2.0

/**
 * An account at work: it listens for requests, keeps what became of each, and
 * answers. It shows nothing.
 */

import { Refusal, Unreachable, clockOf, codes, get, post, read, request, timeLimit } from './api.js';
import { Listener } from './listen.js';
import { answerPayload, sign } from './proof.js';
import { readContext } from './request.js';
import { EventParser } from './sse.js';
import { NotVerified, verify, verifyAnswer } from './webauthn.js';

/** @typedef {import('./vault.js').Account} Account */
/** @typedef {import('./request.js').Transaction} Transaction */
/** @typedef {'open'|'answering'|'approved'|'denied'|'reported'|'expired'|'canceled'|'elsewhere'} RequestState */

/**
 * @typedef {object} LoginRequest
 * @property {Session} session
 * @property {Transaction} tx
 * @property {import('./request.js').Context|null} context null: it cannot be read, and must not be approved
 * @property {RequestState} state
 * @property {unknown} error of the last attempt to answer; null if there was none
 * @property {boolean} byDigits denied by the verifier because of wrong digits
 */

/** What the app can do, as it tells the verifier. */
const capabilities = ['digits', 'stream', 'user_verification', 'web_push'];

/** What a poll may take on top of the time that the verifier holds it, in milliseconds. */
const pollSpare = 10_000;

/** What an answer can make of a request. @type {RequestState[]} */
const answered = ['approved', 'denied', 'reported'];

/** How many requests that are over are kept to be read. */
const keepOver = 10;

/** States in which a request waits for the person. */
const waiting = ['open', 'answering'];

export class Session extends EventTarget {
  /**
   * @param {Account} account
   * @param {{program: string, platform: string}} about
   */
  constructor(account, about) {
    super();
    this.account = account;
    this.about = about;
    this.clock = clockOf(account.url);
    /** @type {Map<string, LoginRequest>} */
    this.requests = new Map();
    /** @type {import('./listen.js').State} */
    this.connection = 'connecting';
    /** What the verifier says of the account; null before it has. @type {any} */
    this.self = null;
    this.listener = new Listener(
      { stream: (signal) => this.stream(signal), poll: (wait, seen, signal) => this.poll(wait, seen, signal) },
      // Not performance.now: it stands still while a phone sleeps.
      { sleep, random: Math.random, now: () => Date.now() },
      (list) => this.hear(list),
      (state) => this.connected(state),
    );
  }

  start() {
    void this.listener.run();
  }

  stop() {
    this.listener.stop();
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** @param {import('./listen.js').State} state */
  connected(state) {
    const before = this.connection;
    this.connection = state;
    if ((state === 'stream' || state === 'polling') && before !== state && this.self === null) void this.announce();
    this.changed();
  }

  /** Tells the verifier what the app can do, and learns what it offers. */
  async announce() {
    try {
      this.self = await post(this.account, '/self', { capabilities, ...this.about });
      try {
        await this.agreeOnCredential();
      } finally {
        this.dispatchEvent(new Event('self'));
        this.changed();
      }
    } catch (e) {
      // An old verifier knows no announcement, and one that is away hears it the next time.
      if (!(e instanceof Refusal || e instanceof Unreachable)) throw e;
    }
  }

  /**
   * Whether the verifier wants the person to be verified: as it says, else as is kept
   * here. The two differ where its answer to a registration, or to its end, was lost.
   */
  get verified() {
    return this.self?.user_verification?.registered ?? this.account.credential !== null;
  }

  /**
   * A credential was registered, or is none any more (null).
   *
   * @param {Account['credential']} credential
   */
  setCredential(credential) {
    this.account.credential = credential;
    if (this.self?.user_verification) this.self.user_verification.registered = credential !== null;
  }

  /** Follows the verifier where it knows of a credential and this app of none, or the other way round. */
  async agreeOnCredential() {
    const registered = this.self?.user_verification?.registered;
    if (typeof registered !== 'boolean' || registered === (this.account.credential !== null)) return;
    /** @type {Account['credential']} */
    let credential = null;
    if (registered) {
      const { options } = await post(this.account, '/user_verification/challenge', {});
      const id = options?.allowCredentials?.[0]?.id;
      if (typeof id !== 'string' || typeof options.rpId !== 'string') return;
      credential = { id, rpId: options.rpId };
    }
    this.setCredential(credential);
    this.dispatchEvent(new Event('credential'));
  }

  /**
   * @param {AbortSignal} signal
   * @returns {AsyncIterable<import('./sse.js').Event|null>}
   */
  async *stream(signal) {
    const response = await request(this.account, 'GET', '/stream', { signal, limit: Infinity }); // the listener knows when it is silent
    if (!response.headers.get('Content-Type')?.startsWith('text/event-stream') || !response.body) {
      await read(response);
      throw new Unreachable('not a stream');
    }
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const parser = new EventParser();
    try {
      for (;;) {
        const { value, done } = await broken(reader.read(), signal);
        if (done) return;
        yield null;
        yield* parser.push(decoder.decode(value, { stream: true }));
      }
    } finally {
      void reader.cancel().catch(() => {});
    }
  }

  /**
   * @param {number} wait seconds
   * @param {string[]} seen
   * @param {AbortSignal} signal
   */
  poll(wait, seen, signal) {
    const query = new URLSearchParams();
    if (wait > 0) query.set('wait', String(wait));
    for (const id of seen) query.append('seen', id);
    const text = query.toString();
    return get(this.account, `/transactions${text && '?'}${text}`, { signal, limit: wait * 1000 + pollSpare });
  }

  /**
   * Takes the open requests as the verifier lists them.
   *
   * @param {Transaction[]} list
   */
  hear(list) {
    let fresh = false;
    for (const tx of list) {
      const known = this.requests.get(tx.txid);
      if (known) {
        // The verifier knows better: a request that was thought over is open.
        if (!this.over(known) && (known.state === 'expired' || known.state === 'elsewhere')) known.state = 'open';
        continue;
      }
      fresh = true;
      this.requests.set(tx.txid, { session: this, tx, context: contextOf(tx), state: 'open', error: null, byDigits: false });
    }
    const listed = new Set(list.map((tx) => tx.txid));
    for (const r of this.requests.values()) {
      // While an answer is under way its own response says what became of it.
      if (r.state === 'open' && !listed.has(r.tx.txid)) r.state = this.over(r) ? 'expired' : 'elsewhere';
    }
    const over = [...this.requests.values()].filter((r) => !waiting.includes(r.state) && !listed.has(r.tx.txid));
    for (const r of over.slice(0, Math.max(0, over.length - keepOver))) this.requests.delete(r.tx.txid);
    if (fresh) this.dispatchEvent(new Event('request'));
    this.changed();
  }

  /**
   * What is left of a request, in milliseconds.
   *
   * @param {LoginRequest} r
   */
  left(r) {
    return r.tx.expires * 1000 - this.clock.now();
  }

  /** @param {LoginRequest} r */
  over(r) {
    return this.left(r) <= 0;
  }

  /** Marks what has run out while nobody said so. */
  tick() {
    for (const r of this.requests.values()) {
      if (waiting.includes(r.state) && this.over(r)) {
        r.state = 'expired'; // if an answer is under way, what comes of it has the last word
        this.changed();
      }
    }
  }

  /** Requests that wait for the person, the oldest first. */
  waiting() {
    return [...this.requests.values()].filter((r) => waiting.includes(r.state));
  }

  /** Forgets what became of requests that are over. */
  forgetOver() {
    for (const [id, r] of this.requests) if (!waiting.includes(r.state)) this.requests.delete(id);
  }

  /**
   * Another tab of this browser has answered.
   *
   * @param {string} txid
   * @param {RequestState} state
   */
  answeredInOtherTab(txid, state) {
    const r = this.requests.get(txid);
    if (!r || r.state === 'answering' || !answered.includes(state)) return;
    r.state = state;
    this.changed();
  }

  /**
   * Signs an answer and hands it in, once. What comes of it is in r.state and r.error.
   *
   * @param {LoginRequest} r
   * @param {'approve'|'deny'|'fraud'} decision
   * @param {string} [digits]
   * @returns {Promise<void>}
   */
  async answer(r, decision, digits) {
    if (r.state !== 'open') return;
    r.state = 'answering';
    r.error = null;
    this.changed();
    try {
      const { account } = this;
      const payload = await answerPayload({
        aud: account.url,
        txid: r.tx.txid,
        context: r.tx.context,
        decision,
        digits: decision === 'approve' && r.tx.verified ? digits : undefined,
        iat: this.clock.seconds(),
      });
      const answer = await sign(account.key, payload);
      /** @type {Record<string, unknown>} */
      const body = { answer };
      if (decision === 'approve' && account.credential) {
        body.verification = await verifyAnswer(account.credential, answer, Math.max(1000, this.left(r)));
      }
      const limit = Math.min(timeLimit, Math.max(1000, this.left(r)));
      const { decision: recorded } = await post(account, `/transactions/${encodeURIComponent(r.tx.txid)}`, body, { limit });
      r.byDigits = decision === 'approve' && recorded === 'deny';
      r.state = recorded === 'approve' ? 'approved' : recorded === 'fraud' ? 'reported' : 'denied';
    } catch (e) {
      r.state = stateAfter(e);
      if (r.state === 'open' && this.over(r)) r.state = 'expired';
      // Then the next try can ask for it.
      if (e instanceof Refusal && e.code === codes.unverified) await this.announce();
      r.byDigits = r.state === 'denied';
      r.error = e;
      if (!(e instanceof Refusal || e instanceof Unreachable || e instanceof NotVerified)) throw e;
    } finally {
      this.changed();
    }
  }

  /**
   * The proof of the person that an operation wants where one is registered.
   *
   * @returns {Promise<{verification?: object}>}
   */
  async verification() {
    // Another tab may have switched it on or off.
    if (this.verified !== (this.account.credential !== null)) await this.announce();
    if (!this.verified) return {};
    const { options } = await post(this.account, '/user_verification/challenge', {});
    return { verification: await verify(options) };
  }
}

/**
 * @param {unknown} e
 * @returns {RequestState}
 */
function stateAfter(e) {
  if (!(e instanceof Refusal)) return 'open';
  switch (e.code) {
    case codes.answered:
      return 'elsewhere';
    case codes.expired:
      return 'expired';
    case codes.canceled:
      return 'canceled';
    case codes.digits:
      // Without tries that are left the verifier has denied the login.
      return / left$/.test(e.detail) ? 'open' : 'denied';
    default:
      return 'open';
  }
}

/** @param {Transaction} tx */
function contextOf(tx) {
  try {
    return readContext(tx);
  } catch {
    return null;
  }
}

/**
 * @template T
 * @param {Promise<T>} reading
 * @param {AbortSignal} signal
 */
async function broken(reading, signal) {
  try {
    return await reading;
  } catch (e) {
    if (signal.aborted) throw e;
    throw new Unreachable(e);
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
