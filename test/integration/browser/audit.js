// SPDX-License-Identifier: Apache-2.0

// What a page in its present state owes to people who see little, use a keyboard or a
// small screen, as far as a program can tell (WCAG 2.2 AA). The value is a list of
// complaints.
(async () => {
	// Colours that are still on their way to a new value would be judged on the way.
	const finite = document.getAnimations().filter((a) => a.effect?.getComputedTiming().endTime !== Infinity);
	await Promise.race([Promise.allSettled(finite.map((a) => a.finished)), new Promise((done) => setTimeout(done, 5000))]);
	const complaints = [];
	const complain = (element, text) => complaints.push(`${text}: ${element.outerHTML.slice(0, 120)}`);

	const visible = (element) => {
		const box = element.getBoundingClientRect();
		return box.width > 1 && box.height > 1 && element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) &&
			box.right > 0 && box.bottom + scrollY > 0;
	};
	const shown = (selector) => [...document.querySelectorAll(selector)].filter(visible);
	// What lies behind a dialog does nothing, and no contrast is due.
	const modal = document.querySelector('dialog:modal');
	const idle = (element) => modal !== null && !modal.contains(element);

	// The page and its parts.
	if (!document.documentElement.lang) complaints.push('the page names no language');
	if (!document.title.trim()) complaints.push('the page has no title');
	const headings = shown('h1');
	if (headings.length !== 1) complaints.push(`the page shows ${headings.length} first headings`);
	if (shown('main').length !== 1) complaints.push(`the page shows ${shown('main').length} main landmarks`);
	if (!document.querySelector('meta[name=viewport]')) complaints.push('the page does not fit itself to a phone');
	if (/maximum-scale|user-scalable/.test(document.querySelector('meta[name=viewport]')?.content ?? ''))
		complaints.push('the page forbids zooming');
	let level = 0;
	for (const heading of shown('h1, h2, h3, h4, h5, h6')) {
		const next = Number(heading.tagName[1]);
		if (next > level + 1 && level > 0) complain(heading, `a heading of level ${next} follows one of level ${level}`);
		level = next;
	}
	const seen = new Set();
	for (const element of document.querySelectorAll('[id]')) {
		if (seen.has(element.id)) complain(element, 'two elements have the same id');
		seen.add(element.id);
	}
	for (const image of document.querySelectorAll('img:not([alt])')) complain(image, 'an image says nothing in words');
	for (const field of shown('input:not([type=hidden]), select, textarea'))
		if (!field.labels?.length && !field.getAttribute('aria-label') && !field.getAttribute('aria-labelledby'))
			complain(field, 'a field has no label');

	// Size: 24 pixels each way, but for links within a text.
	for (const target of shown('a[href], button, input:not([type=hidden]), select, textarea, summary, [role=button]')) {
		const box = (target.labels?.[0] && target.matches('[type=checkbox], [type=radio]') ? target.labels[0] : target).getBoundingClientRect();
		const inText = target.tagName === 'A' && getComputedStyle(target).display === 'inline';
		if (!inText && (box.width < 24 || box.height < 24)) complain(target, `a target of ${Math.round(box.width)} x ${Math.round(box.height)} pixels`);
	}

	// Contrast, by the formula of WCAG 2.2.
	const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
	const colour = (text) => {
		canvas.clearRect(0, 0, 1, 1);
		canvas.fillStyle = text;
		canvas.fillRect(0, 0, 1, 1);
		const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
		return {r, g, b, a: a / 255};
	};
	const over = (top, below) => ({
		r: top.r * top.a + below.r * (1 - top.a),
		g: top.g * top.a + below.g * (1 - top.a),
		b: top.b * top.a + below.b * (1 - top.a),
		a: 1,
	});
	const page = matchMedia('(prefers-color-scheme: dark)').matches && /dark/.test(getComputedStyle(document.documentElement).colorScheme) ?
		{r: 18, g: 18, b: 18, a: 1} : {r: 255, g: 255, b: 255, a: 1};
	const background = (element) => {
		const layers = [];
		for (let e = element; e; e = e.parentElement) {
			const layer = colour(getComputedStyle(e).backgroundColor);
			layers.push(layer);
			if (layer.a === 1) break;
		}
		return layers.reduceRight((below, layer) => over(layer, below), page);
	};
	const luminance = ({r, g, b}) => {
		const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
		return 0.2126 * x + 0.7152 * y + 0.0722 * z;
	};
	const ratio = (a, b) => {
		const [hi, lo] = [luminance(a), luminance(b)].sort((x, y) => y - x);
		return (hi + 0.05) / (lo + 0.05);
	};
	const opacity = (element) => {
		let value = 1;
		for (let e = element; e; e = e.parentElement) value *= Number(getComputedStyle(e).opacity);
		return value;
	};
	const judged = new Set();
	const judge = (element, foreground, least, what) => {
		const behind = background(element);
		const front = over({...foreground, a: foreground.a * opacity(element)}, behind);
		const found = ratio(front, behind);
		if (found < least) complain(element, `${what} has a contrast of ${found.toFixed(2)}, ${least} is due`);
	};
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let node = texts.nextNode(); node; node = texts.nextNode()) {
		const element = node.parentElement;
		if (!node.data.trim() || judged.has(element) || !visible(element) || idle(element) || element.closest('svg, :disabled, [aria-disabled=true]')) continue;
		judged.add(element);
		const style = getComputedStyle(element);
		const size = parseFloat(style.fontSize);
		const large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
		judge(element, colour(style.color), large ? 3 : 4.5, 'a text');
	}
	for (const field of shown('input, select, textarea')) {
		if (field.disabled || idle(field) || field.matches('[type=checkbox], [type=radio], [type=hidden]')) continue;
		const style = getComputedStyle(field);
		// What is typed is drawn beside the field, as text that was judged above.
		if (colour(style.color).a === 0) continue;
		judge(field, colour(style.color), 4.5, 'what a field holds');
	}

	// What is announced needs a place that was there before.
	if (!document.querySelector('[aria-live], [role=status], [role=alert], output') && document.querySelector('script[src]'))
		complaints.push('the page has no live region');
	return complaints;
})()
