// SPDX-License-Identifier: Apache-2.0

/**
 * The view that adds an account: takes a link or its code, makes the key, spends
 * the code, and offers notifications.
 */

import { announce } from '../../../pages/js/live.js';
import { copyButton } from '../../../pages/js/copy.js';
import { element as h } from '../../../pages/js/dom.js';
import { t } from '../../../pages/js/i18n.js';
import { Unreachable, clockOf, post } from '../api.js';
import { fromBase64 } from '../bytes.js';
import { here, isApplePhone, isInstalled } from '../environment.js';
import { explain } from '../errors.js';
import { keyID, newSigningKey } from '../keys.js';
import { LinkError, parseActivation } from '../link.js';
import { button, field, form, notice, p, replace } from '../parts.js';
import { canScan, scan } from '../scan.js';
import { TokenError, parseLink } from '../totp.js';
import { visible } from '../visible.js';
import { notificationsStep } from './notifications.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {{origin: string, code: string}} Activation */

/** An offline root has as many bytes as a host key. */
const rootSize = 32;
const maxName = 64; // bytes; the verifier takes no more

/**
 * @param {App} app
 * @param {AbortSignal} signal
 * @param {Activation|null} given what the address carried
 * @returns {Node}
 */
export function addView(app, signal, given) {
  const root = h('div', { class: 'stack-l' });
  if (given) askName(app, root, given);
  else askLink(app, root, signal);
  return root;
}

/**
 * @param {App} app
 * @param {HTMLElement} root
 * @param {AbortSignal} signal
 */
function askLink(app, root, signal) {
  const link = field({ label: t('app.add.link'), hint: t('app.add.link_hint'), properties: { inputMode: 'url', maxLength: 1024 } });
  /** @param {string} text */
  const take = async (text) => {
    try {
      if (/^\s*otpauth:/i.test(text)) {
        await app.vault.addToken(parseLink(text), clockOf(app.own).seconds());
        location.hash = '#codes';
        return;
      }
      const activation = parseActivation(text, app.own, app.served.partners);
      askName(app, root, activation);
    } catch (e) {
      if (!(e instanceof LinkError || e instanceof TokenError)) throw e;
      link.fail(explain(e));
    }
  };
  const picture = h('div', {});
  replace(root,
    h('div', { class: 'stack' }, h('h1', {}, t('app.add')), p(t('app.add.lead'), 'lead')),
    canScan() ? h('div', { class: 'stack' }, button(t('app.add.scan'), async () => {
      try {
        await take(await scan(picture, signal));
      } catch (e) {
        if (e instanceof DOMException && e.name === 'AbortError') return; // called off
        link.fail(t('app.add.no_camera'));
        console.warn('no camera', e);
      }
    }, { kind: 'button-primary button-wide', icon: 'code' }), picture) : null,
    h('div', { class: 'card' }, form(t('app.add.next'), () => take(link.input.value), link.element)),
    h('p', {}, h('a', { href: '#add-code' }, t('app.add.code_instead'))));
}

/**
 * @param {App} app
 * @param {HTMLElement} root
 * @param {Activation} activation
 */
function askName(app, root, activation) {
  const { platform, browser } = here();
  const host = new URL(activation.origin).host;
  const name = field({
    label: t('app.activate.name'),
    hint: t('app.activate.name_hint'),
    value: [browser, platform].filter(Boolean).join(' – ') || t('app.activate.name_default'),
    properties: { maxLength: maxName },
  });
  const problem = h('p', { class: 'error', hidden: true });
  const submit = async () => {
    problem.hidden = true;
    const chosen = name.input.value.trim();
    if (chosen === '' || new TextEncoder().encode(chosen).length > maxName) {
      name.fail(t('app.activate.name_bad'));
      return;
    }
    try {
      const session = await activate(app, activation, chosen, platform);
      announce(t('app.activate.done_title'));
      finished(app, root, session);
    } catch (e) {
      problem.textContent = e instanceof StorageRefused ? t('app.error.storage') : explain(e);
      problem.hidden = false;
      announce(problem.textContent, 'assertive');
    }
  };
  replace(root,
    h('div', { class: 'stack' }, h('h1', {}, t('app.activate.title')), p(t('app.activate.lead', { host }), 'lead')),
    activation.origin === app.own ? null : notice('info', p(t('app.activate.partner', { host }))),
    isApplePhone() && !isInstalled() ? installFirst(activation) : null,
    h('div', { class: 'card' }, form(t('app.activate.submit'), submit, name.element, p(t('app.activate.what'), 'muted small'), problem)),
    h('details', {}, h('summary', {}, t('app.activate.other')), h('div', { class: 'stack-s' }, p(t('app.activate.other_text')))));
}

/**
 * On Apple's phones the installed app has storage of its own: what is activated here
 * would not be there.
 *
 * @param {Activation} activation
 */
function installFirst(activation) {
  const link = `${activation.origin}/sallyport/activate#${activation.code}`;
  return h('section', { class: 'card' }, h('h2', {}, t('app.ios.title')), p(t('app.ios.text')),
    h('ol', { class: 'steps' },
      h('li', {}, p(t('app.ios.copy')), copyButton(() => link, t('app.ios.copy_button'))),
      h('li', {}, p(t('app.ios.install'))),
      h('li', {}, p(t('app.ios.paste')))));
}

class StorageRefused extends Error {}

/**
 * Makes the key, spends the code and keeps the account.
 *
 * @param {App} app
 * @param {Activation} activation
 * @param {string} name
 * @param {string} platform
 * @returns {Promise<import('../session.js').Session>}
 */
async function activate(app, { origin, code }, name, platform) {
  try {
    await app.vault.probe();
  } catch (e) {
    throw new StorageRefused(String(e));
  }
  const { privateKey, publicKey, spki } = await newSigningKey();
  const caller = { id: await keyID('AK', spki), url: origin, key: privateKey };
  const done = await post(caller, '/activate', { code, public_key: publicKey, name, ...(platform ? { platform } : {}) });
  // What is signed later names this address: it must be the one that was called.
  if (typeof done?.authenticator_id !== 'string' || new URL(done.url).origin !== origin) throw new Unreachable(done);
  const root = done.offline_root ? fromBase64(done.offline_root) : null;
  await app.vault.addAccount({
    id: done.authenticator_id,
    url: origin,
    user_id: String(done.user_id),
    username: String(done.username),
    name: String(done.name),
    created: clockOf(origin).seconds(),
    key: privateKey,
  }, root?.length === rootSize ? root : null);
  void navigator.storage?.persist?.().catch(() => false);
  await app.load();
  const session = app.sessions.get(done.authenticator_id);
  if (!session) throw new StorageRefused('the account is not there');
  return session;
}

/**
 * @param {App} app
 * @param {HTMLElement} root
 * @param {import('../session.js').Session} session
 */
function finished(app, root, session) {
  const { username, url } = session.account;
  const heading = h('h1', { tabIndex: -1 }, t('app.activate.done_title'));
  replace(root,
    h('div', { class: 'stack' }, heading, p(t('app.activate.done', { account: visible(username), host: new URL(url).host }), 'lead')),
    notificationsStep(app, session, 'h2'),
    app.installer ? h('section', { class: 'card' }, h('h2', {}, t('app.install.title')), p(t('app.install.text')), installButton(app)) : null,
    h('p', {}, h('a', { class: 'button button-wide', href: '#requests' }, t('app.activate.to_requests'))));
  heading.focus();
}

/** @param {App} app */
export function installButton(app) {
  return button(t('app.install.button'), async () => {
    await app.installer?.prompt();
    app.installer = null;
    app.changed();
  }, { icon: 'plus' });
}
