// SPDX-License-Identifier: Apache-2.0

/**
 * The view of settings: each account, the app, and what it says of itself.
 */

import { announce } from '../../../pages/js/live.js';
import { ask } from '../../../pages/js/dialog.js';
import { element as h, icon } from '../../../pages/js/dom.js';
import { t } from '../../../pages/js/i18n.js';
import { Refusal, codes, post } from '../api.js';
import { isApplePhone, isInstalled } from '../environment.js';
import { explain } from '../errors.js';
import { button, notice, p, replace } from '../parts.js';
import { unsubscribe } from '../push.js';
import { scopeOf } from '../subscription.js';
import { visible } from '../visible.js';
import { canVerify, register } from '../webauthn.js';
import { installButton } from './add.js';
import { attempt } from './devices.js';
import { notificationsStep } from './notifications.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {import('../session.js').Session} Session */

/**
 * @param {App} app
 * @param {AbortSignal} signal
 * @returns {Node}
 */
export function settingsView(app, signal) {
  const accounts = h('div', { class: 'stack-l' });
  const ids = () => app.accounts().map((s) => s.account.id).join();
  let shown = '';
  const show = () => {
    if (shown === ids() && shown !== '') return;
    shown = ids();
    replace(accounts, ...app.accounts().map((session) => section(app, session, signal)));
  };
  show();
  app.addEventListener('change', show, { signal });
  return h('div', { class: 'stack-l' },
    h('h1', {}, t('app.nav.settings')),
    accounts,
    h('p', {}, h('a', { class: 'button', href: '#add' }, icon('plus'), t('app.add'))),
    app.installer ? h('section', { class: 'card' }, h('h2', {}, t('app.install.title')), p(t('app.install.text')), installButton(app)) : null,
    about(app));
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {AbortSignal} signal
 */
function section(app, session, signal) {
  const { account } = session;
  const id = `account-${account.id}`;
  const pushing = h('div', {});
  const verifying = h('div', {});
  const showPush = () => replace(pushing, session.account.notify ? notifications(app, session, showPush) : notificationsStep(app, session, 'h3', showPush));
  const showVerification = () => void verification(app, session, verifying, showVerification);
  showPush();
  showVerification();
  session.addEventListener('self', showVerification, { signal });
  return h('section', { class: 'stack', 'aria-labelledby': id, 'data-account': account.id },
    h('h2', { id }, `${visible(account.username)} · ${new URL(account.url).host}`),
    p(t('app.settings.device', { name: visible(account.name) }), 'muted'),
    session.connection === 'removed' ? notice('danger', p(t('app.removed', { account: visible(account.username), host: new URL(account.url).host }))) : null,
    session.self?.helpdesk_message ? notice('info', p(visible(session.self.helpdesk_message))) : null,
    pushing, verifying,
    h('div', { class: 'row' }, button(t('app.settings.remove'), () => remove(app, session), { kind: 'button-quiet button-quiet-danger', icon: 'trash' })));
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {() => void} show
 */
function notifications(app, session, show) {
  const result = h('p', { role: 'status' });
  return h('section', { class: 'card' }, h('h3', {}, t('app.notify.title')), p(t('app.notify.on')), result,
    h('div', { class: 'row' },
      button(t('app.notify.test'), async () => {
        try {
          const { outcome } = await post(session.account, '/push_subscription/test', {});
          result.textContent = t(outcome === 'taken' ? 'app.notify.test_taken' : outcome === 'gone' ? 'app.notify.test_gone' : 'app.notify.test_failed');
        } catch (e) {
          result.textContent = explain(e);
        }
      }, { icon: 'bell' }),
      button(t('app.notify.turn_off'), async () => {
        const { account } = session;
        const scope = scopeOf(account, app.own);
        const others = app.accounts().some((s) => s !== session && s.account.notify && scopeOf(s.account, app.own) === scope);
        await attempt(async () => {
          await unsubscribe(account, app.own, others);
          await app.vault.updateAccount(account.id, { notify: false });
          await app.load();
        });
        announce(t('app.notify.off'));
        show();
      }, { kind: 'button-quiet' })));
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {HTMLElement} place
 * @param {() => void} show
 */
async function verification(app, session, place, show) {
  const { account, self } = session;
  const card = (/** @type {Node[]} */ ...children) => replace(place, h('section', { class: 'card' }, h('h3', {}, t('app.verify.title')), ...children));
  if (session.verified) {
    card(p(t('app.verify.on')), h('div', { class: 'row' }, button(t('app.verify.turn_off'), async () => {
      const done = await attempt(async () => {
        await post(account, '/user_verification/remove', await session.verification());
        session.setCredential(null);
        await app.vault.updateAccount(account.id, { credential: null });
        await app.load();
      });
      if (!done) await session.announce(); // what is registered now, if that is not known
      if (done) announce(t('app.verify.off'));
      show();
    }, { kind: 'button-quiet' })));
    return;
  }
  // WebAuthn binds to the site that asks: another verifier's name cannot be used from here.
  if (account.url !== app.own || !self?.user_verification?.available || !(await canVerify())) {
    replace(place);
    return;
  }
  card(p(t('app.verify.why')), h('div', { class: 'row' }, button(t('app.verify.turn_on'), async () => {
    const done = await attempt(async () => {
      const { options } = await post(account, '/user_verification/begin', {});
      const { json, id, rpId } = await register(options);
      await post(account, '/user_verification/finish', { credential: json });
      session.setCredential({ id, rpId });
      await app.vault.updateAccount(account.id, { credential: { id, rpId } });
      await app.load();
    });
    if (!done) await session.announce(); // what is registered now, if that is not known
    if (done) announce(t('app.verify.on'));
    show();
  }, { icon: 'lock' })));
}

/**
 * Removes an account, at its verifier first: a key that is gone here and good there
 * would only be confusing.
 *
 * @param {App} app
 * @param {Session} session
 */
async function remove(app, session) {
  const { account } = session;
  const name = `${visible(account.username)} · ${new URL(account.url).host}`;
  const answer = await ask({
    title: t('app.settings.remove_title', { name }),
    text: t('app.devices.remove_this'),
    choices: [{ value: '', label: t('app.cancel') }, { value: 'remove', label: t('app.remove'), class: 'button-danger' }],
  });
  if (answer !== 'remove') return;
  try {
    await post(account, `/devices/${encodeURIComponent(account.id)}/remove`, await session.verification());
  } catch (e) {
    if (!(e instanceof Refusal && e.code === codes.proof)) {
      const only = await ask({
        title: t('app.settings.only_here_title'),
        text: t('app.settings.only_here', { reason: explain(e) }),
        choices: [{ value: '', label: t('app.cancel') }, { value: 'here', label: t('app.settings.only_here_button'), class: 'button-danger' }],
      });
      if (only !== 'here') return;
    }
  }
  await app.removeAccount(session);
  announce(t('app.settings.removed', { name }));
}

/** @param {App} app */
function about(app) {
  const stored = h('span', {});
  void (navigator.storage?.persisted?.() ?? Promise.resolve(false)).then((kept) => {
    stored.textContent = t(kept ? 'app.about.persistent' : 'app.about.evictable');
  });
  return h('section', { class: 'card', 'aria-labelledby': 'about' },
    h('h2', { id: 'about' }, t('app.about.title')),
    ...(isApplePhone() && !isInstalled() ? [p(t('app.notify.ios'))] : []),
    h('dl', { class: 'facts' },
      h('dt', {}, t('app.about.version')), h('dd', {}, visible(app.served.version)),
      h('dt', {}, t('app.about.storage')), h('dd', {}, stored)));
}
