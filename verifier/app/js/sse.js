// SPDX-License-Identifier: Apache-2.0

/**
 * The event stream format (HTML Living Standard, section 9.2.6), for a stream that
 * fetch reads: EventSource cannot send the Authorization header.
 */

const maxBuffer = 1 << 20; // characters of one event

/**
 * @typedef {object} Event
 * @property {string} event
 * @property {string} data
 */

/**
 * Takes pieces of a stream and gives the events that are complete.
 */
export class EventParser {
  constructor() {
    this.buffer = '';
    this.event = '';
    /** @type {string[]} */
    this.data = [];
  }

  /**
   * @param {string} piece
   * @returns {Event[]}
   * @throws {RangeError} if an event grows beyond all measure
   */
  push(piece) {
    /** @type {Event[]} */
    const out = [];
    this.buffer += piece;
    for (;;) {
      const end = /\r\n|\n|\r(?=[^])/.exec(this.buffer);
      if (!end) break;
      const line = this.buffer.slice(0, end.index);
      this.buffer = this.buffer.slice(end.index + end[0].length);
      this.line(line, out);
    }
    if (this.buffer.length + this.data.reduce((sum, text) => sum + text.length, 0) > maxBuffer) {
      throw new RangeError('an event of the stream is too long');
    }
    return out;
  }

  /**
   * @param {string} line
   * @param {Event[]} out
   */
  line(line, out) {
    if (line === '') {
      if (this.data.length > 0) out.push({ event: this.event || 'message', data: this.data.join('\n') });
      this.event = '';
      this.data = [];
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.event = value;
    if (field === 'data') this.data.push(value);
  }
}
