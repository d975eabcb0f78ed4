// SPDX-License-Identifier: Apache-2.0

// Where the focus is now, as an object with what an order of focus is judged by, or
// null where it is on no element of the page.
(() => {
	const element = document.activeElement;
	if (!element || element === document.body || element === document.documentElement) return null;
	globalThis.stopsOfTest ??= new Map();
	if (!stopsOfTest.has(element)) stopsOfTest.set(element, stopsOfTest.size);
	const box = element.getBoundingClientRect();
	const beside = [element.previousElementSibling, element.nextElementSibling].filter(Boolean);
	const styles = [element, element.parentElement, ...beside, ...beside.flatMap((e) => [...e.children]), element.labels?.[0]].filter(Boolean).map((e) => getComputedStyle(e));
	// A link that stands for its whole row has its ring around that.
	styles.push(getComputedStyle(element, '::after'));
	const ringed = styles.some((s) => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1 || s.boxShadow !== 'none');
	const group = element.closest('nav, header, footer, aside, dialog, main');
	return {
		number: stopsOfTest.get(element),
		html: element.outerHTML.slice(0, 120),
		group: group ? group.tagName : '',
		left: box.left, top: box.top + scrollY, right: box.right, bottom: box.bottom + scrollY,
		ringed,
		astray: Boolean(document.querySelector('dialog[open]')) && !element.closest('dialog[open]'),
		onScreen: box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth,
	};
})()
