// SPDX-License-Identifier: Apache-2.0

/**
 * The view that adds a TOTP token: by link, by camera, or by hand.
 */

import { announce } from '../../../pages/js/live.js';
import { element as h } from '../../../pages/js/dom.js';
import { t } from '../../../pages/js/i18n.js';
import { clockOf } from '../api.js';
import { explain } from '../errors.js';
import { button, field, form, p } from '../parts.js';
import { canScan, scan } from '../scan.js';
import { TokenError, checkToken, parseLink, parseSecret } from '../totp.js';

/** @typedef {import('../app.js').App} App */

/**
 * @param {App} app
 * @param {AbortSignal} signal
 * @returns {Node}
 */
export function addTokenView(app, signal) {
  const link = field({ label: t('app.token.link'), hint: t('app.token.link_hint'), properties: { maxLength: 1024 } });
  const issuer = field({ label: t('app.token.issuer'), properties: { maxLength: 128 } });
  const label = field({ label: t('app.token.label'), properties: { maxLength: 128 } });
  const secret = field({ label: t('app.token.secret'), hint: t('app.token.secret_hint'), properties: { maxLength: 256, autocapitalize: 'characters' } });
  const digits = field({ label: t('app.token.digits'), value: '6', properties: { inputMode: 'numeric', maxLength: 1 } });
  const period = field({ label: t('app.token.period'), value: '30', properties: { inputMode: 'numeric', maxLength: 3 } });
  const fields = { digits, period, secret };
  /** @param {import('../totp.js').Token} token */
  const keep = async (token) => {
    await app.vault.addToken(token, clockOf(app.own).seconds());
    announce(t('app.token.added'));
    location.hash = '#codes';
  };
  /** @param {string} text */
  const take = async (text) => {
    link.fail('');
    try {
      await keep(parseLink(text));
    } catch (e) {
      link.fail(explain(e));
    }
  };
  const byHand = async () => {
    for (const f of Object.values(fields)) f.fail('');
    try {
      await keep(checkToken({
        issuer: issuer.input.value.trim(), label: label.input.value.trim(), secret: parseSecret(secret.input.value),
        digits: Number(digits.input.value), period: Number(period.input.value), hash: 'SHA-1',
      }));
    } catch (e) {
      const at = e instanceof TokenError && (e.code === 'digits' || e.code === 'period') ? fields[e.code] : secret;
      at.fail(explain(e));
    }
  };
  const picture = h('div', {});
  return h('div', { class: 'stack-l' },
    h('div', { class: 'stack' }, h('h1', {}, t('app.token.title')), p(t('app.token.lead'), 'lead')),
    ...(canScan() ? [h('div', { class: 'stack' }, button(t('app.add.scan'), async () => {
      try {
        await take(await scan(picture, signal));
      } catch (e) {
        if (e instanceof DOMException && e.name === 'AbortError') return; // called off
        link.fail(t('app.add.no_camera'));
        console.warn('no camera', e);
      }
    }, { kind: 'button-primary button-wide', icon: 'code' }), picture)] : []),
    h('div', { class: 'card' }, form(t('app.token.add_link'), () => take(link.input.value), link.element)),
    h('details', {}, h('summary', {}, t('app.token.by_hand')),
      h('div', { class: 'card' }, form(t('app.token.add'), byHand, issuer.element, label.element, secret.element, digits.element, period.element))));
}
