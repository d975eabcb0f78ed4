// SPDX-License-Identifier: Apache-2.0

/**
 * The part of a view that switches notifications of an account on: it says what for
 * before the browser asks.
 */

import { announce } from '../../../pages/js/live.js';
import { element as h } from '../../../pages/js/dom.js';
import { t } from '../../../pages/js/i18n.js';
import { Unreachable } from '../api.js';
import { isApplePhone, isInstalled } from '../environment.js';
import { explain } from '../errors.js';
import { button, notice, p, replace } from '../parts.js';
import { canPush, subscribe } from '../push.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {import('../session.js').Session} Session */

/**
 * A card that offers notifications, or says why there are none.
 *
 * @param {App} app
 * @param {Session} session
 * @param {'h2'|'h3'} level of its heading
 * @param {() => void} [onOn] called when they were switched on
 * @returns {HTMLElement}
 */
export function notificationsStep(app, session, level, onOn) {
  const body = h('div', { class: 'stack' });
  const show = () => replace(body, ...content());
  const content = () => {
    if (isApplePhone() && !isInstalled()) return [p(t('app.notify.ios'))];
    if (!canPush()) return [p(t('app.notify.unsupported'))];
    if (session.self !== null && !session.self.web_push_key) return [p(t('app.notify.off_here'))];
    if (Notification.permission === 'denied') return [p(t('app.notify.denied'))];
    if (session.account.notify) return [notice('info', p(t('app.notify.on')))];
    const problem = h('p', { class: 'error', hidden: true });
    return [
      p(t('app.notify.why')),
      problem,
      button(t('app.notify.turn_on'), async () => {
        try {
          await turnOn(app, session);
          announce(t('app.notify.on'));
          show();
          onOn?.();
        } catch (e) {
          problem.textContent = e instanceof NotPermitted ? t('app.notify.denied') : e instanceof NoPush ? t('app.notify.off_here') : e instanceof DOMException ? t('app.notify.no_service') : explain(e);
          problem.hidden = false;
          announce(problem.textContent, 'assertive');
        }
      }, { kind: 'button-primary', icon: 'bell' }),
    ];
  };
  show();
  session.addEventListener('self', show, { once: true });
  return h('section', { class: 'card' }, h(level, {}, t('app.notify.title')), body);
}

/** The person, or the browser's settings, said no. */
export class NotPermitted extends Error {}

/** The verifier sends no notifications. */
class NoPush extends Error {}

/**
 * Switches notifications on. Must be called by a click: browsers ask only then.
 *
 * @param {App} app
 * @param {Session} session
 * @throws {NotPermitted|NoPush}
 * @throws {DOMException} if the browser has no push service, or does not reach it
 * @throws {import('../api.js').Refusal|import('../api.js').Unreachable}
 */
export async function turnOn(app, session) {
  if ((await Notification.requestPermission()) !== 'granted') throw new NotPermitted();
  if (session.self === null) await session.announce();
  const key = session.self?.web_push_key;
  if (!key) throw session.self === null ? new Unreachable() : new NoPush();
  await subscribe(session.account, key, app.own);
  await app.vault.updateAccount(session.account.id, { notify: true });
  await app.load();
}
