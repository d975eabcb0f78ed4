// SPDX-License-Identifier: Apache-2.0

/**
 * The service worker: keeps the shell so that the app opens without a network,
 * shows notifications, and renews a subscription that the push service has ended.
 * The registrations of other verifiers do the last two only.
 */

import { Refusal, get, post } from './api.js';
import { fromBase64url } from './bytes.js';
import { appScope, form, notificationTag as tag, scopeOf } from './subscription.js';
import { Vault } from './vault.js';

/**
 * @typedef {object} Shell
 * @property {string} version hash of all that follows
 * @property {string[]} files addresses; the first is the app's page
 * @property {{title: string, body: string, test: string, icon: string, badge: string}} notification
 */

/**
 * The parts of ServiceWorkerGlobalScope that are used here.
 *
 * @typedef {object} Worker
 * @property {ServiceWorkerRegistration} registration
 * @property {{matchAll(options: object): Promise<any[]>, openWindow(url: string): Promise<unknown>, claim(): Promise<void>}} clients
 * @property {() => Promise<void>} skipWaiting
 * @property {(type: string, listener: (event: any) => void) => void} addEventListener
 * @property {{origin: string}} location
 */

const cachePrefix = 'sallyport-shell-';

/**
 * Sets the worker to work. Must be called while its script is first run.
 *
 * @param {Shell} shell
 */
export function work(shell) {
  const self = /** @type {Worker} */ (/** @type {unknown} */ (globalThis));
  const main = () => new URL(self.registration.scope).pathname === appScope;
  const cacheName = cachePrefix + shell.version;

  self.addEventListener('install', (event) => {
    if (main()) event.waitUntil(keep(cacheName, shell.files));
  });

  self.addEventListener('activate', (event) => {
    if (main()) event.waitUntil(Promise.all([dropOthers(cacheName), self.clients.claim()]));
  });

  self.addEventListener('message', (event) => {
    // The page asks, when nothing is being answered.
    if (event.data === 'activate') event.waitUntil(self.skipWaiting());
  });

  self.addEventListener('fetch', (event) => {
    const { method, mode, url } = event.request;
    const { origin, pathname } = new URL(url);
    if (!main() || method !== 'GET' || origin !== self.location.origin) return;
    const page = mode === 'navigate' && pathname === appScope;
    if (!page && !shell.files.includes(pathname)) return;
    event.respondWith(kept(cacheName, page ? shell.files[0] : pathname, event.request));
  });

  self.addEventListener('push', (event) => {
    const { title, body, test, icon, badge } = shell.notification;
    // A message says of what kind it is, and nothing else that could be shown.
    const shown = kindOf(event.data) === 'test' ? { title: test, body: '' } : { title, body };
    event.waitUntil(self.registration.showNotification(shown.title, /** @type {NotificationOptions} */ ({ body: shown.body, icon, badge, tag, renotify: true, requireInteraction: true })));
  });

  self.addEventListener('notificationclick', (event) => {
    event.notification.close();
    event.waitUntil(openApp(self));
  });

  self.addEventListener('pushsubscriptionchange', (event) => {
    event.waitUntil(renew(self));
  });
}

/**
 * The kind of a message; whatever cannot be read is about a login.
 *
 * @param {{json(): any}|null} data
 * @returns {unknown}
 */
function kindOf(data) {
  try {
    return data?.json()?.t;
  } catch {
    return '';
  }
}

/**
 * @param {string} name
 * @param {string[]} files
 */
async function keep(name, files) {
  const cache = await caches.open(name);
  await cache.addAll(files.map((file) => new Request(file, { cache: 'no-cache', credentials: 'omit' })));
}

/** @param {string} name */
async function dropOthers(name) {
  const names = await caches.keys();
  await Promise.all(names.filter((other) => other.startsWith(cachePrefix) && other !== name).map((other) => caches.delete(other)));
}

/**
 * @param {string} name
 * @param {string} file
 * @param {Request} request
 */
async function kept(name, file, request) {
  return (await (await caches.open(name)).match(file)) ?? fetch(request);
}

/** @param {Worker} self */
async function openApp(self) {
  const windows = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const open = windows.find((client) => new URL(client.url).pathname === appScope);
  if (!open) return self.clients.openWindow(`${appScope}#requests`);
  open.postMessage('requests');
  return open.focus();
}

/**
 * Subscribes the accounts of this registration again. What fails is made good when
 * the app is opened next.
 *
 * @param {Worker} self
 */
async function renew(self) {
  const vault = await Vault.open();
  const { pathname } = new URL(self.registration.scope);
  const all = await vault.accounts();
  for (const account of all.filter((a) => a.notify && scopeOf(a, self.location.origin) === pathname)) {
    try {
      const { web_push_key: key } = await get(account, '/self');
      const { pushManager } = self.registration;
      const subscription =
        (await pushManager.getSubscription()) ?? (await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: fromBase64url(key) }));
      await post(account, '/push_subscription', form(subscription));
    } catch (e) {
      if (!(e instanceof Refusal)) throw e; // the browser fires the event again
    }
  }
}
