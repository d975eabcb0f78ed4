// SPDX-License-Identifier: Apache-2.0

/**
 * The app behind its views: accounts at work, what the page was served with, and
 * the changes that views follow.
 */

import { here } from './environment.js';
import { canPush, forget, subscribe } from './push.js';
import { Session } from './session.js';
import { scopeOf } from './subscription.js';

/** @typedef {import('./vault.js').Account} Account */

/**
 * @typedef {object} Served what the page says of its server
 * @property {string[]} partners origins of other verifiers that the app may call
 * @property {string} version of the verifier
 */

export class App extends EventTarget {
  /**
   * @param {import('./vault.js').Vault} vault
   * @param {Served} served
   */
  constructor(vault, served) {
    super();
    this.vault = vault;
    this.served = served;
    this.own = location.origin;
    /** @type {Map<string, Session>} */
    this.sessions = new Map();
    /** What the browser offers for installing the app; null if it does not. @type {any} */
    this.installer = null;
    /** A version that waits to take over. @type {ServiceWorker|null} */
    this.update = null;
    vault.onChange((change) => void this.otherTab(/** @type {any} */ (change)));
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  /** Puts the accounts that are kept to work. */
  async load() {
    const accounts = await this.vault.accounts();
    const ids = new Set(accounts.map((a) => a.id));
    for (const [id, session] of this.sessions) {
      if (!ids.has(id)) {
        session.stop();
        this.sessions.delete(id);
      }
    }
    for (const account of accounts) {
      const session = this.sessions.get(account.id);
      // Activated again: another key.
      if (session && session.account.number !== account.number) {
        session.stop();
        this.sessions.delete(account.id);
      } else if (session) {
        session.account = account;
        continue;
      }
      this.begin(account);
    }
    this.changed();
  }

  /** @param {Account} account */
  begin(account) {
    const session = new Session(account, { program: `sallyport-app/${this.served.version}`.slice(0, 64), platform: here().platform });
    session.addEventListener('change', () => this.changed());
    session.addEventListener('request', () => this.dispatchEvent(new Event('request')));
    session.addEventListener('credential', () => void this.vault.updateAccount(account.id, { credential: session.account.credential }));
    session.addEventListener('self', () => void this.renewPush(session));
    this.sessions.set(account.id, session);
    session.start();
    this.pauseHidden();
  }

  /**
   * Removes an account from this browser.
   *
   * @param {Session} session
   */
  async removeAccount(session) {
    const { account } = session;
    const scope = scopeOf(account, this.own);
    session.stop();
    if (!this.accounts().some((s) => s !== session && scopeOf(s.account, this.own) === scope)) {
      await forget(account, this.own).catch((e) => console.warn('the push subscription stays', e));
    }
    await this.vault.removeAccount(account.id);
    await this.load();
  }

  /** Accounts in the order in which they were added. */
  accounts() {
    return [...this.sessions.values()].sort((a, b) => a.account.number - b.account.number);
  }

  /** All requests that wait, those that run out first in front. */
  waiting() {
    return this.accounts().flatMap((s) => s.waiting()).sort((a, b) => a.tx.expires - b.tx.expires);
  }

  /** @param {{kind: string, account?: string, txid?: string, state?: any}} change */
  async otherTab({ kind, account, txid, state }) {
    if (kind === 'answered' && account && txid) this.sessions.get(account)?.answeredInOtherTab(txid, state);
    if (kind === 'accounts') await this.load();
    this.changed();
  }

  /**
   * A hidden page listens no more where notifications reach the person: the verifier
   * must not take a page that sleeps for one that is looked at.
   */
  pauseHidden() {
    const hidden = document.visibilityState === 'hidden';
    for (const { listener, account } of this.sessions.values()) listener.setPaused(hidden && account.notify);
  }

  /** The network may be back. */
  hurry() {
    for (const { listener } of this.sessions.values()) listener.hurry();
  }

  /**
   * Makes sure of an account's subscription, if the person wants notifications.
   *
   * @param {Session} session
   */
  async renewPush({ account, self }) {
    if (!account.notify || !self.web_push_key || !canPush() || Notification.permission !== 'granted') return;
    try {
      await subscribe(account, self.web_push_key, this.own);
    } catch (e) {
      console.warn('the push subscription was not renewed', e);
    }
  }
}
