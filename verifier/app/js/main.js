// SPDX-License-Identifier: Apache-2.0

/**
 * The app's start: takes an activation code out of the address, opens what is kept,
 * and shows the view that the address names.
 */

import { announce, prepare } from '../../pages/js/live.js';
import { element as h } from '../../pages/js/dom.js';
import { t } from '../../pages/js/i18n.js';
import { workerURL } from '../../pages/js/trusted.js';
import { App } from './app.js';
import { LinkError, parseActivation } from './link.js';
import { button, notice, p, replace } from './parts.js';
import { appScope, notificationTag } from './subscription.js';
import { Vault } from './vault.js';
import { addView } from './views/add.js';
import { codesView } from './views/codes.js';
import { addTokenView } from './views/token.js';
import { devicesView } from './views/devices.js';
import { requestsView } from './views/requests.js';
import { settingsView } from './views/settings.js';

/** @typedef {import('./views/add.js').Activation} Activation */

/**
 * What is said of a connection; nothing of those that need no words here.
 *
 * @type {Record<string, import('../../pages/js/i18n.js').TextKey>}
 */
const connections = {
  offline: 'app.connection.offline',
  connecting: 'app.connection.connecting',
  polling: 'app.connection.polling',
  stream: 'app.connection.stream',
};

const main = /** @type {HTMLElement} */ (document.getElementById('main'));
const tabs = /** @type {HTMLElement} */ (document.getElementById('tabs'));
const connection = /** @type {HTMLElement} */ (document.getElementById('connection'));
const updateBar = /** @type {HTMLElement} */ (document.getElementById('update'));
const asksBar = /** @type {HTMLElement} */ (document.getElementById('asks'));

/**
 * The activation code in the address, if there is one. It leaves the address bar and
 * the history before the app does anything else.
 *
 * @returns {Activation|null}
 * @throws {LinkError}
 */
function takeActivation() {
  if (!location.hash.startsWith('#activate=')) return null;
  const { href } = location;
  history.replaceState(null, '', `${appScope}#add`);
  return parseActivation(href, location.origin, []);
}

/** @type {Activation|null} */
let given = null;
/** @type {unknown} */
let badLink = null;
const take = () => {
  try {
    const found = takeActivation();
    if (!found) return;
    given = found;
    badLink = null;
  } catch (e) {
    given = null;
    badLink = e;
  }
};
take();

/**
 * @typedef {object} View
 * @property {string} name
 * @property {string} tab the tab that is marked
 * @property {(app: App, signal: AbortSignal, rest: string) => Node} make
 */

/** @type {View[]} */
const views = [
  { name: 'requests', tab: 'requests', make: requestsView },
  { name: 'codes', tab: 'codes', make: codesView },
  { name: 'add-code', tab: 'codes', make: addTokenView },
  { name: 'devices', tab: 'devices', make: devicesView },
  { name: 'settings', tab: 'settings', make: settingsView },
  { name: 'add', tab: '', make: addView_ },
];

/**
 * @param {App} app
 * @param {AbortSignal} signal
 */
function addView_(app, signal) {
  const activation = given;
  given = null;
  const view = addView(app, signal, activation);
  if (!badLink) return view;
  badLink = null;
  return h('div', { class: 'stack-l' }, notice('danger', p(t('app.error.link_form'))), view);
}

/**
 * Tells the person by this page where no push service does: in a network without
 * internet a tab in the background goes on listening.
 *
 * @param {App} app
 */
async function notify(app) {
  if (!('Notification' in globalThis) || Notification.permission !== 'granted') return;
  if (app.waiting().every((r) => r.session.account.notify)) return;
  const registration = await navigator.serviceWorker?.getRegistration(appScope);
  await registration?.showNotification(t('app.notification.title'), { body: t('app.notification.body'), tag: notificationTag });
}

/** Takes the notification away when nothing is left to answer. */
async function tidy() {
  const registrations = (await navigator.serviceWorker?.getRegistrations?.()) ?? [];
  for (const registration of registrations) {
    for (const notification of await registration.getNotifications({ tag: notificationTag })) notification.close();
  }
}

/** How often at most a new version is looked for, in milliseconds. */
const lookEvery = 60 * 60 * 1000;

/** How often what has run out is looked for, in milliseconds. */
const tickEvery = 2000;

let current = new AbortController();
let shown = '';

/** @param {App} app */
function route(app) {
  take();
  const [, path, rest] = /^#([a-z-]*)(?:\/(.*))?$/.exec(location.hash) ?? ['', '', ''];
  if (path === 'main') return; // the skip link
  const name = given || badLink ? 'add' : path === 'request' ? 'requests' : path;
  const view = views.find((v) => v.name === name) ?? views[0];
  current.abort();
  current = new AbortController();
  const first = shown === '';
  shown = view.name;
  main.dataset.view = view.name;
  replace(main, view.make(app, current.signal, path === 'request' ? decode(rest) : ''));
  showAsking(app);
  const heading = main.querySelector('h1');
  document.title = `${heading?.textContent ?? t('app.title')} · ${t('common.name')}`;
  for (const link of tabs.querySelectorAll('a')) {
    if (link.getAttribute('href') === `#${view.tab}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (first) return;
  scrollTo(0, 0);
  if (heading && !main.contains(document.activeElement)) {
    heading.tabIndex = -1;
    heading.focus();
  }
}

/** @param {string|undefined} text */
function decode(text) {
  try {
    return decodeURIComponent(text ?? '');
  } catch {
    return '';
  }
}

/**
 * Says how the verifiers are reached: the worst of the accounts.
 *
 * @param {App} app
 */
function showConnection(app) {
  const order = /** @type {const} */ (['offline', 'connecting', 'polling', 'stream', 'paused', 'removed']);
  const states = app.accounts().map((s) => s.connection);
  const state = order.find((s) => states.includes(s)) ?? '';
  connection.dataset.connection = state;
  const text = connections[state] ? t(connections[state]) : '';
  if (connection.textContent !== text) connection.textContent = text;
  const count = app.waiting().length;
  const link = tabs.querySelector('a');
  link?.classList.toggle('tab-asks', count > 0);
  const badges = /** @type {{setAppBadge?: (n: number) => Promise<void>, clearAppBadge?: () => Promise<void>}} */ (navigator);
  void (count > 0 ? badges.setAppBadge?.(count) : badges.clearAppBadge?.())?.catch(() => {});
}

/** The person asked for the new version. */
let asked = false;

/** The worker is newer than this page, which had something to lose when it came. */
let outdated = false;

/**
 * Whether loading the page anew would take nothing from the person: no request or
 * result is shown, and the view holds nothing that was typed or is seen once.
 *
 * @param {App} app
 */
function idle(app) {
  return app.accounts().every((s) => s.requests.size === 0) && ['requests', 'settings'].includes(shown) && document.querySelector('dialog[open]') === null;
}

/**
 * Leads to requests that wait from every view but their own, and but the one that may
 * hold an activation code: nobody is taken away from what they are doing.
 *
 * @param {App} app
 */
function showAsking(app) {
  const asks = app.waiting().length > 0 && shown !== 'requests' && shown !== 'add';
  if (asks !== asksBar.hidden) return;
  asksBar.hidden = !asks;
  replace(asksBar, asks && notice('warn', p(t('app.asks.text')), h('a', { class: 'button button-primary', href: '#requests' }, t('app.asks.show'))));
}

/**
 * Offers a version that waits, when nothing is being answered; takes it without asking
 * while nobody looks.
 *
 * @param {App} app
 */
function showUpdate(app) {
  if (document.visibilityState === 'hidden' && idle(app)) {
    if (outdated) location.reload();
    else app.update?.postMessage('activate');
  }
  const offer = app.update !== null && app.waiting().length === 0;
  if (offer !== updateBar.hidden) return;
  updateBar.hidden = !offer;
  replace(updateBar, offer && notice('info', p(t('app.update.text')), button(t('app.update.button'), () => {
    asked = true;
    app.update?.postMessage('activate');
  })));
}

/**
 * Keeps the shell, and learns of new versions.
 *
 * @param {App} app
 */
async function work(app) {
  if (!('serviceWorker' in navigator)) return;
  const { serviceWorker } = navigator;
  let controlled = serviceWorker.controller !== null;
  serviceWorker.addEventListener('controllerchange', () => {
    // The first worker takes over a page that it fits. A later one was let in here or in another tab.
    if (controlled && (asked ? app.waiting().length === 0 : idle(app))) location.reload();
    else outdated = controlled;
    controlled = true;
  });
  serviceWorker.addEventListener('message', (event) => {
    if (event.data === 'requests') location.hash = '#requests';
  });
  const registration = await serviceWorker.register(workerURL('/app/sw.js'), { scope: appScope, type: 'module' });
  const look = () => {
    app.update = registration.waiting && serviceWorker.controller ? registration.waiting : null;
    app.changed();
  };
  registration.addEventListener('updatefound', () => registration.installing?.addEventListener('statechange', look));
  look();
  // The page has just begun, and so has nothing to lose.
  if (app.update !== null && idle(app)) /** @type {ServiceWorker} */ (app.update).postMessage('activate');
  // Browsers look for a new version when the app is opened, and it may stay open for weeks.
  let looked = Date.now();
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState !== 'visible' || Date.now() - looked < lookEvery) return;
    looked = Date.now();
    registration.update().catch(() => {});
  });
}

async function start() {
  prepare();
  let vault;
  try {
    vault = await Vault.open();
  } catch (e) {
    console.error(e);
    replace(main, notice('danger', p(t('app.error.storage'))));
    return;
  }
  const app = new App(vault, { partners: (tabs.dataset.partners ?? '').split(' ').filter(Boolean), version: tabs.dataset.version ?? '' });
  let waited = 0;
  app.addEventListener('change', () => {
    showConnection(app);
    showUpdate(app);
    showAsking(app);
    const waits = app.waiting().length;
    if (waits === 0 && waited > 0) void tidy();
    waited = waits;
  });
  app.addEventListener('request', () => {
    if (shown !== 'requests') announce(t('app.asks.text'), 'assertive');
    if (document.visibilityState === 'hidden') void notify(app);
  });
  addEventListener('hashchange', () => route(app));
  addEventListener('online', () => app.hurry());
  document.addEventListener('visibilitychange', () => {
    app.pauseHidden();
    if (document.visibilityState === 'visible') app.hurry();
    showUpdate(app);
  });
  addEventListener('beforeinstallprompt', (event) => {
    event.preventDefault();
    app.installer = event;
    app.changed();
  });
  setInterval(() => {
    for (const session of app.accounts()) session.tick();
  }, tickEvery);
  await app.load();
  route(app);
  document.documentElement.dataset.app = 'ready';
  try {
    await work(app);
  } catch (e) {
    console.warn('the app will not open without a network', e);
  }
}

start().catch((e) => {
  console.error(e);
  replace(main, notice('danger', p(t('app.error.fault'))));
});
