// SPDX-License-Identifier: Apache-2.0

/**
 * What the browser is and can do, as far as the app has to know.
 */

/**
 * @typedef {object} Hints
 * @property {string} userAgent
 * @property {number} touchPoints
 * @property {string} [platform] of the User-Agent Client Hints
 */

/**
 * The platform and the browser by the words that people use; empty if unknown.
 *
 * @param {Hints} hints
 * @returns {{platform: string, browser: string}}
 */
export function recognise({ userAgent, touchPoints, platform }) {
  const first = (/** @type {[RegExp, string][]} */ table) => table.find(([sign]) => sign.test(userAgent))?.[1] ?? '';
  // An iPad calls itself a Mac; no Mac has a touch screen.
  const iPad = /iPad/.test(userAgent) || (/Macintosh/.test(userAgent) && touchPoints > 1);
  return {
    platform:
      (iPad && 'iPad') ||
      first([[/iPhone/, 'iPhone']]) ||
      platform ||
      first([
        [/Android/, 'Android'],
        [/CrOS/, 'ChromeOS'],
        [/Windows/, 'Windows'],
        [/Mac OS X|Macintosh/, 'macOS'],
        [/Linux/, 'Linux'],
      ]),
    browser: first([
      [/Edg(A|iOS)?\//, 'Edge'],
      [/OPR\//, 'Opera'],
      [/SamsungBrowser/, 'Samsung Internet'],
      [/Firefox|FxiOS/, 'Firefox'],
      [/Chrome|CriOS|Chromium/, 'Chrome'],
      [/Safari/, 'Safari'],
    ]),
  };
}

/** @returns {{platform: string, browser: string}} */
export function here() {
  const data = /** @type {{userAgentData?: {platform?: string}}} */ (/** @type {unknown} */ (navigator)).userAgentData;
  return recognise({ userAgent: navigator.userAgent, touchPoints: navigator.maxTouchPoints, platform: data?.platform });
}

/** Whether this is Apple's phone or tablet, where only an installed app can be notified. */
export function isApplePhone() {
  return ['iPhone', 'iPad'].includes(here().platform);
}

/** Whether the app runs as installed, in a window of its own. */
export function isInstalled() {
  const standalone = /** @type {{standalone?: boolean}} */ (/** @type {unknown} */ (navigator)).standalone;
  return standalone === true || matchMedia('(display-mode: standalone)').matches;
}
