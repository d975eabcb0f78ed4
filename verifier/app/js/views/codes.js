// SPDX-License-Identifier: Apache-2.0

/**
 * The view of codes: offline codes of hosts, and TOTP. It needs no network.
 */

import { announce } from '../../../pages/js/live.js';
import { copyButton } from '../../../pages/js/copy.js';
import { ask } from '../../../pages/js/dialog.js';
import { drawing, element as h, icon } from '../../../pages/js/dom.js';
import { t } from '../../../pages/js/i18n.js';
import { qr } from '../../../pages/js/qr.js';
import { Refusal, Unreachable, clockOf, get } from '../api.js';
import { hostKey, offlineCode } from '../offline-codes.js';
import { button, field, notice, p, replace } from '../parts.js';
import { encode } from '../qrcode.js';
import { tokenLink, totp } from '../totp.js';
import { visible } from '../visible.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {import('../session.js').Session} Session */
/** @typedef {import('../vault.js').NumberedHost} NumberedHost */

/** From this many milliseconds on a code is shown as about to end. */
const late = 5000;

/**
 * @param {App} app
 * @param {AbortSignal} signal
 * @returns {Node}
 */
export function codesView(app, signal) {
  const tokens = h('div', { class: 'stack' });
  const hosts = h('div', { class: 'stack-l' });
  const root = h('div', { class: 'stack-l' },
    h('h1', {}, t('app.nav.codes')),
    h('section', { class: 'stack', 'aria-labelledby': 'tokens' }, h('h2', { id: 'tokens' }, t('app.codes.tokens')), tokens,
      h('p', {}, h('a', { class: 'button', href: '#add-code' }, icon('plus'), t('app.codes.add')))),
    h('section', { class: 'stack', 'aria-labelledby': 'hosts' }, h('h2', { id: 'hosts' }, t('app.codes.hosts')), p(t('app.codes.hosts_text'), 'muted'), hosts));
  void showTokens(app, tokens, signal);
  for (const session of app.accounts()) {
    const place = h('div', { class: 'stack' });
    hosts.append(place);
    void showHosts(app, session, place, app.sessions.size > 1);
  }
  if (app.sessions.size === 0) hosts.append(p(t('app.codes.no_account'), 'muted'));
  return root;
}

/**
 * @param {App} app
 * @param {HTMLElement} place
 * @param {AbortSignal} signal
 */
async function showTokens(app, place, signal) {
  const stored = await app.vault.tokens();
  if (signal.aborted) return;
  // An own verifier's clock, where it is known: a phone whose clock is wrong makes wrong codes.
  const clock = clockOf(app.own);
  if (Math.abs(clock.offset) > 0) place.before(notice('warn', p(t('app.codes.clock'))));
  const shows = await Promise.all(stored.map(async (entry) => {
    const token = await app.vault.token(entry);
    const name = [token.issuer, token.label].filter(Boolean).map(visible).join(' · ') || t('app.codes.unnamed');
    const code = h('p', { class: 'code', 'data-code': '' });
    const ring = makeRing();
    let now = '';
    /** @type {HTMLElement} */
    const card = h('article', { class: 'card', 'data-totp': entry.id, 'aria-label': name },
      h('div', { class: 'row row-apart' }, h('h3', {}, name), ring.element), code,
      h('div', { class: 'row' },
        copyButton(() => now),
        h('div', { class: 'actions' },
          button(t('app.codes.move'), () => showMove(name, tokenLink(token)), { kind: 'button-quiet', icon: 'move', label: `${t('app.codes.move')}: ${name}` }),
          button(t('app.remove'), () => removeToken(app, entry.id, name, card), { kind: 'button-quiet button-quiet-danger', icon: 'trash', label: `${t('app.remove')}: ${name}` }))));
    place.append(card);
    return async () => {
      const { code: made, left: ms } = await totp(token, clock.now());
      ring.set(ms / (token.period * 1000), ms <= late);
      if (made === now) return;
      now = made;
      code.textContent = group(made);
    };
  }));
  if (stored.length === 0) place.append(p(t('app.codes.no_tokens'), 'muted'));
  const tick = () => void Promise.all(shows.map((show) => show()));
  tick();
  if (shows.length > 0) {
    const timer = setInterval(tick, 250);
    signal.addEventListener('abort', () => clearInterval(timer));
  }
}

/** @param {string} code */
function group(code) {
  const half = Math.ceil(code.length / 2);
  return `${code.slice(0, half)} ${code.slice(half)}`;
}

function makeRing() {
  const around = 2 * Math.PI * 15;
  const rest = drawing('circle', { cx: 18, cy: 18, r: 15, 'stroke-dasharray': around });
  const element = drawing('svg', { class: 'ring', viewBox: '0 0 36 36', 'aria-hidden': 'true' }, drawing('circle', { cx: 18, cy: 18, r: 15 }), rest);
  return {
    element,
    /**
     * @param {number} part
     * @param {boolean} ends
     */
    set(part, ends) {
      rest.setAttribute('stroke-dashoffset', String(around * (1 - part)));
      element.classList.toggle('ring-late', ends);
    },
  };
}

/**
 * @param {string} name
 * @param {string} link
 */
async function showMove(name, link) {
  await ask({
    title: t('app.codes.move_title', { name }),
    text: t('app.codes.move_text'),
    body: [qr(encode(link), t('app.codes.move_qr', { name }))],
    choices: [{ value: 'close', label: t('app.close') }],
  });
}

/**
 * @param {App} app
 * @param {string} id
 * @param {string} name
 * @param {HTMLElement} card
 */
async function removeToken(app, id, name, card) {
  const answer = await ask({
    title: t('app.codes.remove_title', { name }),
    text: t('app.codes.remove_text'),
    choices: [{ value: '', label: t('app.cancel') }, { value: 'remove', label: t('app.remove'), class: 'button-danger' }],
  });
  if (answer !== 'remove') return;
  await app.vault.removeToken(id);
  const next = card.parentElement?.parentElement?.querySelector('h2');
  card.remove();
  announce(t('app.codes.removed', { name }));
  if (next) {
    next.tabIndex = -1;
    next.focus();
  }
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {HTMLElement} place
 * @param {boolean} several
 */
async function showHosts(app, session, place, several) {
  const { account } = session;
  const root = await app.vault.offlineRoot(account);
  const show = (/** @type {import('../vault.js').Hosts} */ kept, /** @type {boolean} */ away) => {
    const title = several ? h('h3', {}, `${visible(account.username)} · ${new URL(account.url).host}`) : null;
    if (!root) {
      replace(place, title, p(t('app.codes.no_root'), 'muted'));
      return;
    }
    const when = away && kept.fetched > 0 ? p(t('app.codes.as_of', { when: new Date(kept.fetched * 1000).toLocaleString() }), 'muted small') : null;
    if (kept.hosts.length === 0) replace(place, title, p(t('app.codes.no_hosts'), 'muted'), when);
    else replace(place, title, when, ...kept.hosts.map((host) => hostCard(app, session, root, host)));
  };
  show(await app.vault.hosts(account.id), true);
  try {
    const { hosts } = await get(account, '/hosts');
    show(await app.vault.keepHosts(account.id, hosts, session.clock.seconds()), false);
  } catch (e) {
    // Away or gone: what was kept stands.
    if (!(e instanceof Refusal || e instanceof Unreachable)) throw e;
  }
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {Uint8Array} root
 * @param {NumberedHost} host
 */
function hostCard(app, session, root, host) {
  const { account } = session;
  const name = visible(host.label);
  const out = h('div', { class: 'stack-s', hidden: true });
  /** @param {number|null} asked */
  const show = async (asked) => {
    const number = await app.vault.takeNumber(account.id, host, asked);
    const key = await hostKey(root, { ...host, authenticator_id: account.id });
    const code = await offlineCode(key, number);
    replace(out, h('p', { class: 'code', 'data-code': '' }, group(code)), p(t('app.codes.number', { number }), 'muted small'));
    out.hidden = false;
    announce(`${t('app.codes.code_for', { host: name })}: ${[...code].join(' ')}`);
  };
  const other = field({ label: t('app.codes.other'), hint: t('app.codes.other_hint'), properties: { inputMode: 'numeric', maxLength: 9 } });
  const showOther = button(t('app.codes.show_other'), async () => {
    const text = other.input.value.trim();
    if (!/^[0-9]{1,9}$/.test(text)) {
      other.fail(t('app.codes.other_bad'));
      return;
    }
    other.fail('');
    await show(Number(text));
  });
  return h('article', { class: 'card', 'data-host': host.host_id, 'aria-label': name },
    h('h3', {}, name),
    p(host.name === host.label ? visible(host.username) : `${visible(host.username)} · ${visible(host.name)}`, 'muted small'),
    out,
    h('div', { class: 'row' }, button(t('app.codes.next'), () => show(null), { kind: 'button-primary', icon: 'code' })),
    h('details', {}, h('summary', {}, t('app.codes.other_title')), h('div', { class: 'stack' }, other.element, showOther)));
}
