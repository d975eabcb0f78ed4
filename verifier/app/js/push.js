// SPDX-License-Identifier: Apache-2.0

/**
 * Web Push: how an account is told of a request while the app is closed. A
 * subscription belongs to one service worker registration and one key of a verifier,
 * so the accounts of each other verifier have a registration of their own.
 */

import { post } from './api.js';
import { base64url, fromBase64url } from './bytes.js';
import { appScope, form, scopeOf } from './subscription.js';
import { workerURL } from '../../pages/js/trusted.js';

/** @typedef {import('./vault.js').Account} Account */

/** Whether this browser has what it takes. */
export function canPush() {
  return 'serviceWorker' in navigator && 'PushManager' in globalThis && 'Notification' in globalThis;
}

/**
 * @param {string} scope
 * @returns {Promise<ServiceWorkerRegistration>} with an active worker
 */
async function registration(scope) {
  const found = await navigator.serviceWorker.getRegistration(scope);
  const { pathname } = new URL(found?.scope ?? location.href);
  const registered = found && pathname === scope ? found : await navigator.serviceWorker.register(workerURL('/app/sw.js'), { scope, type: 'module' });
  if (!registered.active) await active(registered);
  return registered;
}

/** @param {ServiceWorkerRegistration} registered */
async function active(registered) {
  const worker = registered.installing ?? registered.waiting;
  if (!worker) return;
  await new Promise((resolve) => {
    const look = () => ['activated', 'redundant'].includes(worker.state) && resolve(undefined);
    worker.addEventListener('statechange', look);
    look();
  });
}

/**
 * Subscribes an account, or subscribes it again where the key or the subscription
 * has changed, and tells the verifier.
 *
 * @param {Account} account
 * @param {string} key the verifier's VAPID key, base64url
 * @param {string} own origin of the app
 * @throws {DOMException} if the browser or its push service refuses
 * @throws {import('./api.js').Refusal|import('./api.js').Unreachable}
 */
export async function subscribe(account, key, own) {
  const { pushManager } = await registration(scopeOf(account, own));
  let subscription = await pushManager.getSubscription();
  const used = subscription?.options.applicationServerKey;
  if (subscription && (!used || base64url(new Uint8Array(used)) !== key)) {
    await subscription.unsubscribe();
    subscription = null;
  }
  subscription ??= await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: fromBase64url(key) });
  await post(account, '/push_subscription', form(subscription));
}

/**
 * Ends the notifications of an account. others says whether another account uses the
 * same registration.
 *
 * @param {Account} account
 * @param {string} own
 * @param {boolean} others
 */
export async function unsubscribe(account, own, others) {
  if (!others) await forget(account, own);
  await post(account, '/push_subscription/remove', {});
}

/**
 * Ends the browser's part only: for an account whose verifier knows it no more.
 *
 * @param {Account} account
 * @param {string} own
 */
export async function forget(account, own) {
  if (!canPush()) return;
  const scope = scopeOf(account, own);
  const found = await navigator.serviceWorker.getRegistration(scope);
  if (!found || new URL(found.scope).pathname !== scope) return;
  await (await found.pushManager.getSubscription())?.unsubscribe();
  if (scope !== appScope) await found.unregister();
}
