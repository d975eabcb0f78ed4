// SPDX-License-Identifier: Apache-2.0

/**
 * The view of login requests: what asks, and the answer.
 */

import { announce } from '../../../pages/js/live.js';
import { countdown } from '../../../pages/js/countdown.js';
import { ask } from '../../../pages/js/dialog.js';
import { digitsField } from '../../../pages/js/digits.js';
import { element as h, icon } from '../../../pages/js/dom.js';
import { t } from '../../../pages/js/i18n.js';
import { explain } from '../errors.js';
import { busy, button, empty, notice, p, replace } from '../parts.js';
import { typedDigits } from '../request.js';
import { visible } from '../visible.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {import('../session.js').LoginRequest} LoginRequest */
/** @typedef {Exclude<import('../session.js').RequestState, 'open'|'answering'>} Over */

/** @typedef {import('../../../pages/js/i18n.js').TextKey} TextKey */

/**
 * What became of a request: title, text, icon and the class of the title.
 *
 * @type {Record<Over, [TextKey, TextKey, string, string]>}
 */
const results = {
  approved: ['app.result.approved', 'app.result.approved_text', 'check', 'outcome outcome-good'],
  denied: ['app.result.denied', 'app.result.denied_text', 'cross', 'outcome'],
  reported: ['app.result.reported', 'app.result.reported_text', 'warning', 'outcome outcome-danger'],
  expired: ['app.result.expired', 'app.result.expired_text', 'clock', 'outcome'],
  canceled: ['app.result.canceled', 'app.result.canceled_text', 'cross', 'outcome'],
  elsewhere: ['app.result.elsewhere', 'app.result.elsewhere_text', 'info', 'outcome'],
};

/**
 * @param {App} app
 * @param {AbortSignal} signal ends the view
 * @param {string} wanted id of the request that the address names; may be empty
 * @returns {Node}
 */
export function requestsView(app, signal, wanted) {
  /** @type {Map<string, Card>} */
  const cards = new Map();
  const heading = h('h1', { tabIndex: -1 }, t('app.nav.requests'));
  const warning = h('div', {}, notice('warn', p(t('app.requests.several'))));
  const list = h('div', { class: 'stack' });
  const nothing = h('div', {});
  const root = h('div', { class: 'stack-l' }, heading, warning, list, nothing);

  const show = () => {
    const requests = app.accounts().flatMap((s) => [...s.requests.values()]);
    for (const r of requests) {
      // Ids are each verifier's own: two may give the same.
      const key = `${r.session.account.id} ${r.tx.txid}`;
      let card = cards.get(key);
      if (!card) {
        card = new Card(app, r, () => heading.focus());
        cards.set(key, card);
        if (r.tx.txid === wanted) list.prepend(card.root);
        else list.append(card.root);
        if (cards.size === 1) card.focus();
        announce(card.title.textContent ?? '', 'assertive');
      }
      card.show();
    }
    for (const [key, card] of cards) {
      if (!requests.includes(card.request)) {
        card.root.remove();
        card.stop();
        cards.delete(key);
      }
    }
    warning.hidden = app.waiting().length < 2;
    nothing.hidden = cards.size > 0;
    if (!nothing.hidden) replace(nothing, ...nobody(app));
  };
  app.addEventListener('change', show, { signal });
  signal.addEventListener('abort', () => {
    for (const card of cards.values()) card.stop();
    // What became of requests was to be read here; it need not be read twice.
    for (const session of app.accounts()) session.forgetOver();
  });
  show();
  return root;
}

/** @param {App} app */
function nobody(app) {
  const sessions = app.accounts();
  if (sessions.length === 0) {
    return [empty('mark', t('app.welcome.title'), t('app.welcome.text'), h('a', { class: 'button button-primary', href: '#add' }, icon('plus'), t('app.add')))];
  }
  return [
    ...sessions.filter((s) => s.connection === 'removed').map((s) =>
      notice('danger', p(t('app.removed', { account: visible(s.account.username), host: new URL(s.account.url).host })),
        h('p', {}, h('a', { href: '#settings' }, t('app.nav.settings'))))),
    empty('bell', t('app.requests.none'), t('app.requests.none_text')),
  ];
}

class Card {
  /**
   * @param {App} app
   * @param {LoginRequest} request
   * @param {() => void} done called when the person has put the card away
   */
  constructor(app, request, done) {
    this.done = done;
    this.app = app;
    this.request = request;
    const { tx, context, session } = request;
    const id = `request-${session.account.id}-${tx.txid}`;
    this.question = context ? question(context) : t('app.request.unreadable_title');
    this.title = h('h2', { id, tabIndex: -1 }, this.question);
    this.count = this.countDown();
    this.error = h('p', { class: 'error', hidden: true });
    this.body = h('div', { class: 'stack' });
    this.outcome = h('p', { hidden: true });
    this.result = h('div', { hidden: true });
    this.whose = p(t('app.request.account', { account: visible(session.account.username), host: new URL(session.account.url).host }), 'muted small');
    this.root = h('article', { class: 'card card-asks', 'aria-labelledby': id, 'data-txid': tx.txid },
      this.title, this.outcome,
      this.whose,
      context ? facts(context, tx.created) : p(t('app.request.unreadable')),
      this.body, this.result);
    this.approve = button(t('app.request.approve'), () => this.answer('approve'), { kind: 'button-primary', icon: 'check' });
    this.deny = button(t('app.request.deny'), () => this.askWhy(), { icon: 'cross' });
    this.digits = tx.verified && context
      ? digitsField({ id: `digits-${session.account.id}-${tx.txid}`, label: t('app.request.digits'), hint: t('app.request.digits_hint'), length: 6 })
      : null;
    if (this.digits) {
      this.digits.input.autocomplete = 'off';
      this.digits.input.addEventListener('input', () => {
        this.digits?.fail('');
        this.show();
      });
      this.digits.input.addEventListener('keydown', (e) => {
        if (e.key === 'Enter' && !this.approve.disabled) void busy(this.approve, () => this.answer('approve'));
      });
    }
    this.body.append(
      ...(this.digits ? [this.digits.element] : []),
      ...(context && !tx.verified ? [notice('warn', p(t('app.request.plain')))] : []),
      this.error,
      h('div', { class: 'doors' }, this.deny, ...(context ? [this.approve] : [])),
      this.count.element);
    this.shown = '';
  }

  /** Shows the state as it is. */
  show() {
    const { request: r } = this;
    this.root.dataset.state = r.state;
    this.whose.hidden = this.app.sessions.size < 2; // one may be added while the request is shown
    const typed = this.digits ? typedDigits(this.digits.input.value) : '';
    this.approve.disabled = r.state !== 'open' || (this.digits !== null && typed === '');
    this.deny.disabled = r.state !== 'open';
    if (this.digits) this.digits.input.readOnly = r.state === 'answering';
    if (this.shown === r.state) return;
    const wasOver = !this.result.hidden;
    this.shown = r.state;
    const over = r.state !== 'open' && r.state !== 'answering';
    const held = this.root.contains(document.activeElement);
    this.body.hidden = over;
    this.result.hidden = !over;
    this.root.classList.toggle('card-asks', !over);
    if (!over) {
      if (wasOver) this.reopen();
      return;
    }
    this.stop();
    const [titleKey, textKey, symbol, titleClass] = results[/** @type {Over} */ (r.state)];
    const title = t(titleKey);
    const text = t(r.byDigits ? 'app.result.denied_digits' : textKey);
    this.title.className = titleClass;
    replace(this.title, icon(symbol), title);
    this.outcome.textContent = text;
    this.outcome.hidden = false;
    replace(this.result, button(t('app.request.done'), () => {
      r.session.requests.delete(r.tx.txid);
      this.app.changed();
      this.done();
    }));
    announce(`${title}. ${text}`, r.state === 'approved' ? 'polite' : 'assertive');
    if (held) this.title.focus();
  }

  /** Asks again: the verifier still waits for what was taken for over. */
  reopen() {
    this.title.className = '';
    replace(this.title, this.question);
    this.outcome.hidden = true;
    const { element } = this.count;
    this.count = this.countDown();
    element.replaceWith(this.count.element);
    announce(this.question, 'assertive');
  }

  countDown() {
    const { tx, session } = this.request;
    return countdown({
      end: tx.expires * 1000, total: Math.max(1, tx.expires - tx.created), now: () => session.clock.now(), onEnd: () => session.tick(),
    });
  }

  /** @param {'approve'|'deny'|'fraud'} decision */
  async answer(decision) {
    const { request: r } = this;
    this.fail('');
    if (r.state !== 'open') return;
    await r.session.answer(r, decision, this.digits ? typedDigits(this.digits.input.value) : undefined);
    if (r.state !== 'open') {
      if (r.error === null) this.app.vault.tell(/** @type {any} */ ({ kind: 'answered', account: r.session.account.id, txid: r.tx.txid, state: r.state }));
      return;
    }
    const text = explain(r.error);
    const digits = /** @type {{code?: number}} */ (r.error)?.code === 40334;
    if (digits && this.digits) {
      this.digits.fail(text);
      this.digits.input.focus();
      this.digits.input.select();
    } else this.fail(text);
    announce(text, 'assertive');
    this.show();
  }

  /** @param {string} text */
  fail(text) {
    this.error.textContent = text;
    this.error.hidden = text === '';
  }

  async askWhy() {
    const why = await ask({
      title: t('app.deny.title'),
      text: t('app.deny.text'),
      choices: [
        { value: 'deny', label: t('app.deny.mistake') },
        { value: 'fraud', label: t('app.deny.fraud'), class: 'button-danger' },
      ],
    });
    if (why !== 'deny' && why !== 'fraud') return;
    await this.answer(why);
    // The request may have ended while the question was open, or while the answer was on its way.
    if (why === 'fraud' && !['reported', 'open'].includes(this.request.state)) {
      await ask({ title: t('app.deny.late_title'), text: t('app.deny.late'), choices: [{ value: '', label: t('app.close') }] });
    }
  }

  focus() {
    queueMicrotask(() => {
      // Whoever is doing something else is not interrupted.
      const { activeElement } = document;
      if (activeElement === document.body || activeElement?.matches('main, h1')) (this.digits?.input ?? this.title).focus();
    });
  }

  stop() {
    this.count.stop();
  }
}

/** @param {import('../request.js').Context} c */
function question(c) {
  return c.hostname ? t('app.request.title_host', { host: visible(c.hostname) }) : t('app.request.title');
}

/** @typedef {[string, string, boolean?]} Row name, value, and whether it is compared by eye */

/**
 * @param {import('../request.js').Context} c
 * @param {number} created Unix seconds
 */
function facts(c, created) {
  /** @type {Row[]} */
  const rows = [
    [t('app.request.who'), c.display_username || c.username],
    [t('app.request.service'), c.type],
    [t('app.request.application'), c.application === c.hostname ? '' : c.application],
    [t('app.request.host'), c.hostname, true],
    [t('app.request.from'), c.ipaddr, true],
    [t('app.request.when'), new Date(created * 1000).toLocaleTimeString()],
  ];
  // authd says most of this twice: here for clients that know no other place.
  const more = c.pushinfo.filter(([, value]) => !rows.some(([, said]) => said === value)).map(([key, value]) => /** @type {Row} */ ([visible(key), value, true]));
  return h('dl', { class: 'facts' }, ...[...rows, ...more].filter(([, value]) => value !== '').flatMap(([name, value, mono]) =>
    [h('dt', {}, name), h('dd', { class: mono ? 'mono' : undefined }, visible(value))]));
}
