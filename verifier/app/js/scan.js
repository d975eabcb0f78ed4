// SPDX-License-Identifier: Apache-2.0

/**
 * Reads a QR code with the camera, where the browser can (BarcodeDetector).
 */

import { element as h } from '../../pages/js/dom.js';
import { t } from '../../pages/js/i18n.js';
import { button, replace } from './parts.js';

/** @typedef {{detect(source: HTMLVideoElement): Promise<{rawValue: string}[]>}} Detector */

const every = 250; // milliseconds between two looks

const maker = () => /** @type {{BarcodeDetector?: new (options: {formats: string[]}) => Detector}} */ (/** @type {unknown} */ (globalThis)).BarcodeDetector;

/** Whether there is a camera to ask for and something that reads codes. */
export function canScan() {
  return maker() !== undefined && Boolean(navigator.mediaDevices?.getUserMedia);
}

/**
 * Shows the camera's picture in place until it has read a code.
 *
 * @param {HTMLElement} place
 * @param {AbortSignal} signal ends it
 * @returns {Promise<string>} the text of the code
 * @throws {DOMException} if the camera is refused, or reading was called off
 */
export async function scan(place, signal) {
  const BarcodeDetector = maker();
  if (!BarcodeDetector) throw new DOMException('no barcode detector', 'NotSupportedError');
  const detector = new BarcodeDetector({ formats: ['qr_code'] });
  const media = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
  const stopped = new AbortController();
  const stop = () => stopped.abort();
  signal.addEventListener('abort', stop);
  const video = h('video', { class: 'viewfinder', playsInline: true, muted: true, 'aria-label': t('app.add.viewfinder') });
  try {
    video.srcObject = media;
    replace(place, video, button(t('app.cancel'), stop, { kind: 'button-wide' }));
    await video.play();
    for (;;) {
      if (stopped.signal.aborted) throw new DOMException('called off', 'AbortError');
      const [found] = await detector.detect(video);
      if (found) return found.rawValue;
      await new Promise((resolve) => setTimeout(resolve, every));
    }
  } finally {
    signal.removeEventListener('abort', stop);
    for (const track of media.getTracks()) track.stop();
    replace(place);
  }
}
