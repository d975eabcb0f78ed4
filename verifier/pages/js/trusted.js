// SPDX-License-Identifier: Apache-2.0

/** @module The one place where a text becomes the address of code. */

/**
 * The address of a service worker is under /app/ of this very server.
 *
 * @param {string} path
 */
function checked(path) {
  if (!/^\/app\/[a-z0-9/]*[a-z0-9-]+\.js(\?[a-z0-9=&]*)?$/.test(path)) {
    throw new TypeError(`${path} is not the address of a service worker`);
  }
  return path;
}

/** @typedef {{ createScriptURL(text: string): string }} Policy */
/** @typedef {{ createPolicy(name: string, rules: Policy): Policy }} Factory */

const factory = /** @type {{ trustedTypes?: Factory }} */ (/** @type {unknown} */ (globalThis)).trustedTypes;

// Made at the first use: pages outside the app may not make any.
/** @type {Policy | undefined} */
let policy;

/**
 * The address by which navigator.serviceWorker.register takes a worker, as browsers
 * with Trusted Types want it. The policy is the only one that the pages'
 * Content-Security-Policy names, and browsers let it be made once.
 *
 * @param {string} path such as "/app/sw.js"
 * @returns {string}
 */
export function workerURL(path) {
  if (!factory) {
    return checked(path);
  }
  policy ??= factory.createPolicy('sallyport-worker', { createScriptURL: checked });
  return policy.createScriptURL(path);
}
