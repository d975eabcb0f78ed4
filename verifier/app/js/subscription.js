// SPDX-License-Identifier: Apache-2.0

/**
 * What page and service worker both know of push subscriptions.
 */

import { base64url } from './bytes.js';

/** @typedef {import('./vault.js').Account} Account */

/** One notification, however many requests: its text is always the same. */
export const notificationTag = 'sallyport-request';

/** Where the main registration lives: the app itself. */
export const appScope = '/app/';

/**
 * The scope of the registration for an account.
 *
 * @param {Pick<Account, 'url'|'number'>} account
 * @param {string} own origin of the app
 * @returns {string}
 */
export function scopeOf(account, own) {
  return account.url === own ? appScope : `${appScope}v/${account.number}/`;
}

/**
 * What a verifier takes.
 *
 * @param {PushSubscription} subscription
 * @returns {{endpoint: string, p256dh: string, auth: string}}
 */
export function form(subscription) {
  const part = (/** @type {PushEncryptionKeyName} */ name) => {
    const bytes = subscription.getKey(name);
    if (!bytes) throw new TypeError(`a subscription without ${name}`);
    return base64url(new Uint8Array(bytes));
  };
  return { endpoint: subscription.endpoint, p256dh: part('p256dh'), auth: part('auth') };
}
