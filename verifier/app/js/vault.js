// SPDX-License-Identifier: Apache-2.0

/**
 * What the app keeps, in IndexedDB: accounts, hosts with offline codes, TOTP
 * tokens, settings. Keys are CryptoKeys that no script can read; secrets are
 * sealed. docs/explanation/web-app.md says what is kept how.
 */

import { newSealingKey, newSigningKey, seal, unseal } from './keys.js';

const databaseName = 'sallyport';
const databaseVersion = 1;
const channelName = 'sallyport';

/**
 * @typedef {object} Account
 * @property {string} id authenticator id (DP…)
 * @property {string} url scheme and authority of its verifier
 * @property {string} user_id
 * @property {string} username
 * @property {string} name what the person calls this device
 * @property {number} created Unix seconds
 * @property {number} number counts the accounts of this browser, from 1; never used twice
 * @property {CryptoKey} key signs
 * @property {CryptoKey} sealKey seals offlineRoot
 * @property {Uint8Array|null} offlineRoot sealed; null if the verifier gave none
 * @property {{id: string, rpId: string}|null} credential of user verification
 * @property {boolean} notify the person wants notifications
 */

/**
 * @typedef {object} OfflineHost as the verifier names it
 * @property {string} host_id
 * @property {string} name
 * @property {string} label
 * @property {string} user_id
 * @property {string} username
 * @property {number} generation
 * @property {number} edition
 * @property {number} next above every number whose use was reported
 * @property {number} issued Unix seconds
 * @property {number} until Unix seconds
 */

/** @typedef {OfflineHost & {number: number}} NumberedHost number is that of the code to be shown next */

/**
 * @typedef {object} Hosts
 * @property {string} account
 * @property {number} fetched Unix seconds
 * @property {NumberedHost[]} hosts
 */

/**
 * @typedef {object} StoredToken
 * @property {string} id
 * @property {string} issuer
 * @property {string} label
 * @property {number} digits
 * @property {number} period seconds
 * @property {import('./totp.js').Hash} hash
 * @property {CryptoKey} sealKey
 * @property {Uint8Array} secret sealed
 * @property {number} created Unix seconds
 */

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @returns {Promise<IDBDatabase>} */
function openDatabase() {
  const request = indexedDB.open(databaseName, databaseVersion);
  request.onupgradeneeded = () => {
    const db = request.result;
    db.createObjectStore('accounts', { keyPath: 'id' });
    db.createObjectStore('hosts', { keyPath: 'account' });
    db.createObjectStore('tokens', { keyPath: 'id' });
    db.createObjectStore('settings');
  };
  return done(request);
}

export class Vault {
  /** @param {IDBDatabase} db */
  constructor(db) {
    this.db = this.watch(db);
    this.channel = new BroadcastChannel(channelName);
  }

  /**
   * @param {IDBDatabase} db
   * @returns {Promise<IDBDatabase>}
   */
  watch(db) {
    // A later version of the app in another tab must not wait for this one.
    db.onversionchange = () => db.close();
    // Browsers close a database of their own accord, such as after a fault or a phone's sleep.
    db.onclose = () => {
      this.db = openDatabase().then((again) => this.watch(again));
      this.db.catch(() => {}); // told to whoever asks for it
    };
    return Promise.resolve(db);
  }

  /**
   * @returns {Promise<Vault>}
   * @throws {DOMException} if the browser keeps nothing for this page
   */
  static async open() {
    return new Vault(await openDatabase());
  }

  /**
   * Calls f whenever another tab has changed something.
   *
   * @param {(change: {kind: string}) => void} f
   */
  onChange(f) {
    this.channel.addEventListener('message', (e) => f(e.data));
  }

  /**
   * Tells the other tabs.
   *
   * @param {{kind: string}} change
   */
  tell(change) {
    this.channel.postMessage(change);
  }

  /**
   * Runs f in one transaction and returns, once it is on disk, what f returned.
   * f may only await requests of its own store.
   *
   * @template T
   * @param {string} name
   * @param {IDBTransactionMode} mode
   * @param {(store: IDBObjectStore) => Promise<T>} f
   * @returns {Promise<T>}
   */
  async within(name, mode, f) {
    const tx = (await this.db).transaction(name, mode, { durability: mode === 'readwrite' ? 'strict' : 'default' });
    const ended = new Promise((resolve, reject) => {
      tx.oncomplete = () => resolve(undefined);
      tx.onabort = () => reject(tx.error ?? new DOMException('the transaction was undone', 'AbortError'));
    });
    ended.catch(() => {}); // f's own error is the one to be told
    let out;
    try {
      out = await f(tx.objectStore(name));
    } catch (e) {
      try {
        tx.abort();
      } catch {
        // it has ended already
      }
      throw e;
    }
    await ended;
    return out;
  }

  /**
   * Shows that a key can be kept here, before a one-time code is spent.
   *
   * @throws {DOMException} if not
   */
  async probe() {
    const { privateKey } = await newSigningKey();
    await this.within('settings', 'readwrite', (s) => done(s.put(privateKey, 'probe')));
    await this.within('settings', 'readwrite', (s) => done(s.delete('probe')));
  }

  /** @returns {Promise<Account[]>} in the order in which they were added */
  async accounts() {
    const all = /** @type {Account[]} */ (await this.within('accounts', 'readonly', (s) => done(s.getAll())));
    return all.sort((a, b) => a.number - b.number);
  }

  /**
   * Adds an account, or puts one in the place of its predecessor: an activation
   * makes the key before it dead.
   *
   * @param {Omit<Account, 'number'|'sealKey'|'offlineRoot'|'credential'|'notify'>} account
   * @param {Uint8Array|null} offlineRoot
   * @returns {Promise<Account>}
   * @throws {RangeError} if another verifier's account has the id: one verifier must not
   *   be able to put itself in the place of another
   */
  async addAccount(account, offlineRoot) {
    const number = await this.within('settings', 'readwrite', async (s) => {
      const next = ((await done(s.get('accounts'))) ?? 0) + 1;
      await done(s.put(next, 'accounts'));
      return next;
    });
    const sealKey = await newSealingKey();
    /** @type {Account} */
    const whole = {
      ...account,
      number,
      sealKey,
      offlineRoot: offlineRoot && (await seal(sealKey, rootPurpose(account.id), offlineRoot)),
      credential: null,
      notify: false,
    };
    await this.within('accounts', 'readwrite', async (s) => {
      const before = /** @type {Account|undefined} */ (await done(s.get(account.id)));
      if (before && before.url !== account.url) throw new RangeError('another account has this id');
      await done(s.put(whole));
    });
    await this.within('hosts', 'readwrite', (s) => done(s.delete(account.id)));
    this.tell({ kind: 'accounts' });
    return whole;
  }

  /**
   * Changes members of an account that is still there.
   *
   * @param {string} id
   * @param {Partial<Account>} change
   */
  async updateAccount(id, change) {
    await this.within('accounts', 'readwrite', async (s) => {
      const account = await done(s.get(id));
      if (account) await done(s.put({ ...account, ...change, id }));
    });
    this.tell({ kind: 'accounts' });
  }

  /**
   * Removes an account with its keys.
   *
   * @param {string} id
   */
  async removeAccount(id) {
    await this.within('hosts', 'readwrite', (s) => done(s.delete(id)));
    await this.within('accounts', 'readwrite', (s) => done(s.delete(id)));
    this.tell({ kind: 'accounts' });
  }

  /**
   * @param {Account} account
   * @returns {Promise<Uint8Array|null>}
   */
  async offlineRoot(account) {
    return account.offlineRoot && unseal(account.sealKey, rootPurpose(account.id), account.offlineRoot);
  }

  /**
   * The hosts of an account as the verifier named them last.
   *
   * @param {string} account
   * @returns {Promise<Hosts>}
   */
  async hosts(account) {
    const kept = await this.within('hosts', 'readonly', (s) => done(s.get(account)));
    return kept ?? { account, fetched: 0, hosts: [] };
  }

  /**
   * Keeps what the verifier says of an account's hosts. Numbers of codes that were
   * shown are not forgotten, and those that were used are passed over.
   *
   * @param {string} account
   * @param {OfflineHost[]} fetched
   * @param {number} now Unix seconds
   * @returns {Promise<Hosts>}
   */
  async keepHosts(account, fetched, now) {
    return this.within('hosts', 'readwrite', async (s) => {
      const before = /** @type {Hosts|undefined} */ (await done(s.get(account)));
      const hosts = mergeHosts(before?.hosts ?? [], fetched);
      const kept = { account, fetched: now, hosts };
      await done(s.put(kept));
      return kept;
    });
  }

  /**
   * Takes the number of the next code of a host, or the given one. That it was
   * taken is on disk when the promise is kept: the code may be shown then.
   *
   * @param {string} account
   * @param {OfflineHost} host
   * @param {number|null} number as the host asked for it
   * @returns {Promise<number>}
   * @throws {RangeError} if the account has no such host any more
   */
  async takeNumber(account, host, number) {
    const taken = await this.within('hosts', 'readwrite', async (s) => {
      const kept = /** @type {Hosts|undefined} */ (await done(s.get(account)));
      const found = kept?.hosts.find((h) => sameKey(h, host));
      if (!kept || !found) throw new RangeError('the account has no offline code for that host');
      const out = number ?? found.number;
      found.number = numberAfter(found.number, out);
      await done(s.put(kept));
      return out;
    });
    this.tell({ kind: 'hosts' });
    return taken;
  }

  /** @returns {Promise<StoredToken[]>} by name */
  async tokens() {
    const all = /** @type {StoredToken[]} */ (await this.within('tokens', 'readonly', (s) => done(s.getAll())));
    return all.sort((a, b) => `${a.issuer} ${a.label}`.localeCompare(`${b.issuer} ${b.label}`) || a.created - b.created);
  }

  /**
   * @param {import('./totp.js').Token} token
   * @param {number} now Unix seconds
   * @returns {Promise<string>} its id
   */
  async addToken(token, now) {
    const id = crypto.randomUUID();
    const sealKey = await newSealingKey();
    const { secret, ...rest } = token;
    const stored = { ...rest, id, sealKey, secret: await seal(sealKey, tokenPurpose(id), secret), created: now };
    await this.within('tokens', 'readwrite', (s) => done(s.put(stored)));
    this.tell({ kind: 'tokens' });
    return id;
  }

  /**
   * Opens a token.
   *
   * @param {StoredToken} stored
   * @returns {Promise<import('./totp.js').Token>}
   */
  async token(stored) {
    const { issuer, label, digits, period, hash } = stored;
    return { issuer, label, digits, period, hash, secret: await unseal(stored.sealKey, tokenPurpose(stored.id), stored.secret) };
  }

  /** @param {string} id */
  async removeToken(id) {
    await this.within('tokens', 'readwrite', (s) => done(s.delete(id)));
    this.tell({ kind: 'tokens' });
  }

  /**
   * @param {string} key
   * @returns {Promise<unknown>} undefined if it was never set
   */
  setting(key) {
    return this.within('settings', 'readonly', (s) => done(s.get(key)));
  }

  /**
   * @param {string} key
   * @param {unknown} value
   */
  async setSetting(key, value) {
    await this.within('settings', 'readwrite', (s) => done(s.put(value, key)));
    this.tell({ kind: 'settings' });
  }
}

/** @param {string} id */
const rootPurpose = (id) => `sallyport app v1 offline root ${id}`;
/** @param {string} id */
const tokenPurpose = (id) => `sallyport app v1 totp ${id}`;

/**
 * @param {OfflineHost} a
 * @param {OfflineHost} b
 */
export function sameKey(a, b) {
  return a.host_id === b.host_id && a.user_id === b.user_id && a.generation === b.generation && a.edition === b.edition;
}

/** How many numbers, from its next one on, a host takes. */
const offlineWindow = 20;

/**
 * The number of the next code after one was shown. A number that no host would take
 * when kept is next was mistyped: to go on from it would make codes that none takes.
 *
 * @param {number} kept
 * @param {number} shown
 * @returns {number}
 */
export function numberAfter(kept, shown) {
  return shown < kept + offlineWindow ? Math.max(kept, shown + 1) : kept;
}

/**
 * The hosts that the verifier names, each with the number of its next code.
 *
 * @param {NumberedHost[]} before
 * @param {OfflineHost[]} fetched
 * @returns {NumberedHost[]}
 */
export function mergeHosts(before, fetched) {
  return fetched.map((host) => {
    const known = before.find((b) => sameKey(b, host));
    return { ...host, number: Math.max(host.next, known?.number ?? 0) };
  });
}
