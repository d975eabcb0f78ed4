// SPDX-License-Identifier: Apache-2.0

/** @module Draws a QR code that the server has computed. */

import { drawing, element } from './dom.js';

/** The quiet zone that scanners need, in modules (ISO/IEC 18004). */
const quiet = 4;

/**
 * The outline of the dark modules, as the data of an SVG path: one rectangle for
 * each run of a row. Rows are texts of "0" and "1", all as long as there are rows.
 *
 * @param {string[]} rows
 * @returns {string}
 */
export function outline(rows) {
  if (rows.length === 0 || rows.some((row) => row.length !== rows.length || /[^01]/.test(row))) {
    throw new TypeError('a QR code is a square of 0 and 1');
  }
  return rows.flatMap((row, y) =>
    [...row.matchAll(/1+/g)].map((run) => `M${(run.index ?? 0) + quiet} ${y + quiet}h${run[0].length}v1h-${run[0].length}z`)).join('');
}

/**
 * A figure of a QR code.
 *
 * @param {string[]} rows
 * @param {string} label what the code leads to, for people who cannot see it
 * @returns {HTMLElement}
 */
export function qr(rows, label) {
  const size = rows.length + 2 * quiet;
  return element('figure', { class: 'qr' },
    drawing('svg', { viewBox: `0 0 ${size} ${size}`, role: 'img', 'aria-label': label, 'shape-rendering': 'crispEdges' },
      drawing('path', { d: outline(rows), fill: 'currentColor' })));
}
