// SPDX-License-Identifier: Apache-2.0

/**
 * What a person reads of an error.
 */

import { t } from '../../pages/js/i18n.js';
import { Refusal, Unreachable } from './api.js';
import { LinkError } from './link.js';
import { TokenError } from './totp.js';
import { visible } from './visible.js';
import { NotVerified } from './webauthn.js';

/** @typedef {import('../../pages/js/i18n.js').TextKey} TextKey */

/**
 * Refusals that have words of their own.
 *
 * @type {Record<number, TextKey>}
 */
const refusals = {
  40107: 'app.error.40107',
  40320: 'app.error.40320',
  40321: 'app.error.40321',
  40322: 'app.error.40322',
  40330: 'app.error.40330',
  40336: 'app.error.40336',
  40337: 'app.error.40337',
  40338: 'app.error.40338',
  40364: 'app.error.40364',
  40365: 'app.error.40365',
};

/** @type {Record<TokenError['code'], TextKey>} */
const tokenErrors = {
  form: 'app.error.token_form',
  hotp: 'app.error.token_hotp',
  secret: 'app.error.token_secret',
  digits: 'app.error.token_digits',
  period: 'app.error.token_period',
  hash: 'app.error.token_hash',
};

/**
 * @param {unknown} e
 * @returns {string}
 */
export function explain(e) {
  if (e instanceof Refusal) return explainRefusal(e);
  if (e instanceof Unreachable) return t(navigator.onLine === false ? 'app.error.offline' : 'app.error.unreachable');
  if (e instanceof NotVerified) return t('app.error.not_verified');
  if (e instanceof LinkError) return e.code === 'foreign' ? t('app.error.link_foreign', { host: visible(e.origin) }) : t('app.error.link_form');
  if (e instanceof TokenError) return t(tokenErrors[e.code]);
  console.error(e);
  return t('app.error.fault');
}

/** @param {Refusal} e */
function explainRefusal(e) {
  if (e.code === 40334) {
    const left = Number(/^([0-9]{1,2}) tr(?:y|ies) left/.exec(e.detail)?.[1] ?? NaN);
    if (left === 1) return t('app.error.40334_one');
    return Number.isNaN(left) ? t('app.error.40334') : t('app.error.40334_left', { count: left });
  }
  if (refusals[e.code]) return t(refusals[e.code]);
  return t('app.error.refused', { code: e.code, reason: visible(e.detail ? `${e.reason}: ${e.detail}` : e.reason) });
}
