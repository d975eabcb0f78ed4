// SPDX-License-Identifier: Apache-2.0

/**
 * Login requests as they come from a verifier, read strictly: what a person is
 * asked to approve must be what the answer is bound to.
 */

/**
 * @typedef {object} Transaction as served
 * @property {string} txid
 * @property {string} context JSON; its bytes are what an answer is bound to
 * @property {boolean} verified the approval must carry the digits shown at the login
 * @property {number} created Unix seconds
 * @property {number} expires Unix seconds
 */

/**
 * @typedef {object} Context what a request says about itself: data from a peer
 * @property {string} username
 * @property {string} display_username
 * @property {string} type what asks: service or title
 * @property {string} application
 * @property {string} hostname
 * @property {string} ipaddr
 * @property {[string, string][]} pushinfo
 */

/**
 * Reads the transactions of an answer or an event.
 *
 * @param {unknown} data
 * @returns {Transaction[]}
 * @throws {TypeError} if it is something else
 */
export function readTransactions(data) {
  const list = /** @type {{transactions?: unknown}} */ (data ?? {}).transactions;
  if (!Array.isArray(list)) throw new TypeError('no list of transactions');
  return list.map((item) => {
    const { txid, context, verified, created, expires } = item ?? {};
    if (typeof txid !== 'string' || txid === '' || typeof context !== 'string') throw new TypeError('not a transaction');
    if (!Number.isFinite(created) || !Number.isFinite(expires)) throw new TypeError('a transaction without its times');
    return { txid, context, verified: verified !== false, created, expires };
  });
}

/** @param {unknown} value */
const text = (value) => (typeof value === 'string' ? value : '');

/**
 * Reads what a request says about itself. A context that is for another
 * transaction must not be shown for this one.
 *
 * @param {Transaction} tx
 * @returns {Context}
 * @throws {TypeError}
 */
export function readContext(tx) {
  let c;
  try {
    c = JSON.parse(tx.context);
  } catch {
    throw new TypeError('the request cannot be read');
  }
  if (c === null || typeof c !== 'object' || c.v !== 1) throw new TypeError('the request is of a version that is not known here');
  if (c.txid !== tx.txid) throw new TypeError('the request describes another one');
  const info = c.pushinfo !== null && typeof c.pushinfo === 'object' && !Array.isArray(c.pushinfo) ? c.pushinfo : {};
  return {
    username: text(c.username),
    display_username: text(c.display_username),
    type: text(c.type),
    application: text(c.application),
    hostname: text(c.hostname),
    ipaddr: text(c.ipaddr),
    pushinfo: Object.entries(info).flatMap(([key, value]) => (typeof value === 'string' ? [[key, value]] : [])),
  };
}

/**
 * The digits that a person typed, without the spaces by which people group them;
 * empty if they cannot be the digits of a login.
 *
 * @param {string} typed
 * @returns {string}
 */
export function typedDigits(typed) {
  const digits = typed.replace(/[\s-]/g, '');
  return /^[0-9]{3,6}$/.test(digits) ? digits : '';
}
