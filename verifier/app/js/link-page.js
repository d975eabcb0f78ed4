// SPDX-License-Identifier: Apache-2.0

/**
 * The page of an activation link: hands the code on to the app. Opening it spends
 * nothing.
 */

import { validCode, withPoint } from './link.js';

const code = withPoint(location.hash.slice(1));
if (validCode(code)) {
  const target = `/app/#activate=${code}`;
  const open = document.getElementById('open');
  open?.querySelector('a')?.setAttribute('href', target);
  if (open) open.hidden = false;
  // replace: the code shall not stay in the history.
  location.replace(target);
} else {
  const broken = document.getElementById('broken');
  if (broken) broken.hidden = false;
}
