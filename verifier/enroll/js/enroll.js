// SPDX-License-Identifier: Apache-2.0

/** @module What the pages of enrolment do beside their forms, which work without it. */

import { announce, prepare } from '../../pages/js/live.js';
import { t } from '../../pages/js/i18n.js';
import { enhanceDigits } from '../../pages/js/digits.js';
import { codeOf, next, pollEvery } from './state.js';

prepare();
start();
// A link that is opened while its page is open changes the fragment alone.
addEventListener('hashchange', start);
waitForPhone();
showPrint();
showDigits();
showLocalTime();

/**
 * Takes the link's code out of the address into the form. It is sent when the person
 * presses the button: programs that look at mails run scripts, but press nothing.
 */
function start() {
  const form = document.querySelector('[data-start]');
  const input = document.querySelector('#link');
  const code = codeOf(location.hash);
  if (!(form instanceof HTMLFormElement) || !(input instanceof HTMLInputElement) || code === '') {
    return;
  }
  history.replaceState(null, '', location.pathname);
  input.value = code;
  const field = form.querySelector('[data-link-field]');
  const ready = form.querySelector('[data-link-ready]');
  if (field instanceof HTMLElement && ready instanceof HTMLElement && input.getAttribute('aria-invalid') !== 'true') {
    field.hidden = true;
    ready.hidden = false;
  }
}

/** Goes on by itself when the phone is activated. */
function waitForPhone() {
  if (document.querySelector('[data-wait-phone]') === null) {
    return;
  }
  const look = async () => {
    let state = 'waiting';
    try {
      const answer = await fetch('/enroll/status', { headers: { Accept: 'application/json' }, cache: 'no-store' });
      state = answer.ok ? (await answer.json()).phone : 'waiting';
    } catch {
      // The network is away: the next look may find it back.
    }
    const path = next(state);
    if (path === '') {
      setTimeout(look, pollEvery);
      return;
    }
    if (state === 'done') {
      announce(t('enroll.phone.activated'));
    }
    location.replace(path);
  };
  setTimeout(look, pollEvery);
}

function showPrint() {
  const button = document.querySelector('[data-print]');
  if (button instanceof HTMLButtonElement) {
    button.hidden = false;
    button.addEventListener('click', () => print());
  }
}

/** Shows boxes for the digits of the first code. */
function showDigits() {
  const input = document.querySelector('#code');
  if (input instanceof HTMLInputElement) {
    input.maxLength = 6;
    enhanceDigits(input);
  }
}

/** Shows the end of the session in the reader's own time. */
function showLocalTime() {
  for (const place of document.querySelectorAll('[data-until]')) {
    const end = new Date(Number(place.getAttribute('data-until')) * 1000);
    place.textContent = t('enroll.until', { time: new Intl.DateTimeFormat(undefined, { timeStyle: 'short' }).format(end) });
  }
}
