// SPDX-License-Identifier: Apache-2.0

/** @module Elements out of names, properties and children; never out of markup. */

const svgNamespace = 'http://www.w3.org/2000/svg';

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element with properties and children. A property whose name has a hyphen or is
 * "class", "for" or "role" becomes an attribute; "on" is a map of event listeners; any
 * other is set on the element. Properties that are undefined are left out.
 *
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name
 * @param {Record<string, unknown>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[N]}
 */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined) {
      continue;
    }
    if (key === 'on') {
      for (const [event, listener] of Object.entries(/** @type {Record<string, EventListener>} */ (value))) {
        made.addEventListener(event, listener);
      }
    } else if (key.includes('-') || key === 'class' || key === 'for' || key === 'role') {
      made.setAttribute(key, String(value));
    } else {
      /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (made))[key] = value;
    }
  }
  made.append(...present(children));
  return made;
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function present(children) {
  return /** @type {(Node | string)[]} */ (children.filter((c) => c !== null && c !== undefined && c !== false));
}

/**
 * An element of SVG with attributes.
 *
 * @param {string} name
 * @param {Record<string, string | number>} [attributes]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function drawing(name, attributes = {}, ...children) {
  const made = /** @type {SVGElement} */ (document.createElementNS(svgNamespace, name));
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * A symbol of icons/symbols.svg. It is decoration: what it says must stand in words too.
 *
 * @param {string} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const symbols = new URL('../icons/symbols.svg', import.meta.url);
  return drawing('svg', { class: 'icon', 'aria-hidden': 'true', focusable: 'false' }, drawing('use', { href: `${symbols.pathname}#${name}` }));
}
