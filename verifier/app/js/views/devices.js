// SPDX-License-Identifier: Apache-2.0

/**
 * The view of a person's devices, for each account: names, removal, and moving to a
 * new phone.
 */

import { announce } from '../../../pages/js/live.js';
import { copyButton } from '../../../pages/js/copy.js';
import { countdown } from '../../../pages/js/countdown.js';
import { ask } from '../../../pages/js/dialog.js';
import { element as h, icon } from '../../../pages/js/dom.js';
import { t } from '../../../pages/js/i18n.js';
import { qr } from '../../../pages/js/qr.js';
import { get, post } from '../api.js';
import { explain } from '../errors.js';
import { button, empty, field, notice, p, replace } from '../parts.js';
import { visible } from '../visible.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {import('../session.js').Session} Session */

/**
 * @typedef {object} Device
 * @property {string} authenticator_id
 * @property {string} name
 * @property {string} platform
 * @property {number} activated
 * @property {number} last_seen
 * @property {boolean} this
 * @property {boolean} user_verification
 * @property {boolean} web_push
 */

/**
 * @param {App} app
 * @param {AbortSignal} signal
 * @returns {Node}
 */
export function devicesView(app, signal) {
  const sections = app.accounts().map((session) => section(app, session, signal));
  return h('div', { class: 'stack-l' }, h('h1', {}, t('app.nav.devices')),
    ...(sections.length > 0 ? sections : [empty('phone', t('app.welcome.title'), t('app.welcome.text'), h('a', { class: 'button button-primary', href: '#add' }, icon('plus'), t('app.add')))]));
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {AbortSignal} signal
 */
function section(app, session, signal) {
  const { account } = session;
  const place = h('div', { class: 'stack' }, p(t('app.loading'), 'muted'));
  const move = h('div', {});
  const id = `account-${account.id}`;
  const load = async () => {
    try {
      const { devices } = await get(account, '/devices', { signal });
      const list = /** @type {Device[]} */ (devices);
      replace(place, h('ul', { class: 'list' }, ...list.map((device) => row(app, session, device, load))));
    } catch (e) {
      if (signal.aborted) return;
      replace(place, notice('warn', p(explain(e))), button(t('app.again'), load));
    }
  };
  void load();
  return h('section', { class: 'stack', 'aria-labelledby': id },
    h('h2', { id }, `${visible(account.username)} · ${new URL(account.url).host}`),
    place,
    h('div', { class: 'row' }, button(t('app.move.button'), () => showMove(session, move, signal), { icon: 'move' })),
    move);
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {Device} device
 * @param {() => Promise<void>} reload
 */
function row(app, session, device, reload) {
  const name = visible(device.name) || t('app.devices.unnamed');
  const day = (/** @type {number} */ at) => new Date(at * 1000).toLocaleDateString();
  const about = [
    visible(device.platform),
    t('app.devices.since', { when: day(device.activated) }),
    device.last_seen ? t('app.devices.seen', { when: day(device.last_seen) }) : '',
  ].filter(Boolean).join(' · ');
  return h('li', { 'data-device': device.authenticator_id },
    icon(/linux|windows|mac|chrome ?os/i.test(device.platform) ? 'laptop' : 'phone'),
    h('div', { class: 'list-main' },
      h('p', { class: 'list-title' }, name, ' ', device.this && h('span', { class: 'badge' }, t('app.devices.this'))),
      p(about, 'muted small')),
    h('div', { class: 'list-actions' },
      button(t('app.devices.rename'), () => rename(session, device, name, reload), { kind: 'button-quiet', icon: 'pencil', label: `${t('app.devices.rename')}: ${name}` }),
      button(t('app.remove'), () => remove(app, session, device, name, reload), { kind: 'button-quiet button-quiet-danger', icon: 'trash', label: `${t('app.remove')}: ${name}` })));
}

/**
 * @param {Session} session
 * @param {Device} device
 * @param {string} name
 * @param {() => Promise<void>} reload
 */
async function rename(session, device, name, reload) {
  const input = field({ label: t('app.devices.new_name'), value: device.name, properties: { maxLength: 64 } });
  // The first button is what Enter would press.
  input.input.addEventListener('keydown', (event) => {
    if (/** @type {KeyboardEvent} */ (event).key !== 'Enter') return;
    event.preventDefault();
    input.input.closest('dialog')?.close('save');
  });
  const answer = await ask({
    title: t('app.devices.rename_title', { name }),
    body: [input.element],
    choices: [{ value: '', label: t('app.cancel') }, { value: 'save', label: t('app.save'), class: 'button-primary' }],
  });
  const chosen = input.input.value.trim();
  if (answer !== 'save' || chosen === '' || chosen === device.name) return;
  await attempt(async () => {
    await post(session.account, `/devices/${encodeURIComponent(device.authenticator_id)}`, { name: chosen });
    announce(t('app.devices.renamed'));
  });
  await reload();
}

/**
 * @param {App} app
 * @param {Session} session
 * @param {Device} device
 * @param {string} name
 * @param {() => Promise<void>} reload
 */
async function remove(app, session, device, name, reload) {
  const answer = await ask({
    title: t('app.devices.remove_title', { name }),
    text: device.this ? t('app.devices.remove_this') : t('app.devices.remove_text'),
    choices: [{ value: '', label: t('app.cancel') }, { value: 'remove', label: t('app.remove'), class: 'button-danger' }],
  });
  if (answer !== 'remove') return;
  const done = await attempt(async () => {
    await post(session.account, `/devices/${encodeURIComponent(device.authenticator_id)}/remove`, await session.verification());
  });
  if (!done) return;
  announce(t('app.devices.removed', { name }));
  if (device.this) {
    await app.removeAccount(session);
    location.hash = '#settings';
  } else await reload();
}

/**
 * Runs f; what fails is told in a dialog.
 *
 * @param {() => Promise<void>} f
 * @returns {Promise<boolean>} whether it was done
 */
export async function attempt(f) {
  try {
    await f();
    return true;
  } catch (e) {
    await ask({ title: t('app.failed'), text: explain(e), choices: [{ value: '', label: t('app.close') }] });
    return false;
  }
}

/**
 * @param {Session} session
 * @param {HTMLElement} place
 * @param {AbortSignal} signal
 */
async function showMove(session, place, signal) {
  const answer = await ask({
    title: t('app.move.title'),
    text: t('app.move.text'),
    choices: [{ value: '', label: t('app.cancel') }, { value: 'go', label: t('app.move.go'), class: 'button-primary' }],
  });
  if (answer !== 'go') return;
  await attempt(async () => {
    const { link, expires, qr: rows } = await post(session.account, '/move', await session.verification());
    const over = () => replace(place, notice('warn', p(t('app.move.over'))));
    const total = Math.max(1, expires - session.clock.seconds());
    const count = countdown({ end: expires * 1000, total, now: () => session.clock.now(), onEnd: over });
    signal.addEventListener('abort', () => count.stop());
    const heading = h('h3', { tabIndex: -1 }, t('app.move.scan'));
    replace(place, h('div', { class: 'card', 'data-move': '' },
      heading, p(t('app.move.scan_text')), qr(rows, t('app.qr')), count.element,
      h('div', { class: 'row' }, copyButton(() => link, t('app.move.copy')))));
    heading.focus();
    place.scrollIntoView({ block: 'nearest' });
  });
}
