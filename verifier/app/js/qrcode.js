// SPDX-License-Identifier: Apache-2.0

/**
 * Makes QR codes (ISO/IEC 18004, byte mode, error correction level M) of secrets that
 * must not leave the browser; those of links come from the verifier.
 */

import { utf8 } from './bytes.js';

/** For versions 1 to 20 at level M: error correction codewords of a block, and blocks. */
const correction = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26];
const blocks = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16];

/**
 * Where the alignment patterns of a version are centred.
 *
 * @param {number} version
 */
function alignment(version) {
  if (version === 1) return [];
  const size = 17 + 4 * version;
  const count = Math.floor(version / 7) + 2;
  const step = Math.ceil((size - 13) / (2 * count - 2)) * 2;
  return [6, ...Array.from({ length: count - 1 }, (_, i) => size - 7 - step * (count - 2 - i))];
}

/**
 * Codewords that a version holds, data and error correction.
 *
 * @param {number} version
 */
function capacity(version) {
  const size = 17 + 4 * version;
  const centres = alignment(version).length;
  // All modules, without finders with their margins, timing, format and the dark module.
  let modules = size * size - 3 * 64 - 2 * (size - 16) - 31;
  if (centres > 0) modules -= (centres * centres - 3) * 25 - 2 * (centres - 2) * 5;
  if (version >= 7) modules -= 36;
  return Math.floor(modules / 8);
}

/**
 * Data codewords of a version.
 *
 * @param {number} version
 */
const dataSize = (version) => capacity(version) - correction[version - 1] * blocks[version - 1];

// GF(256) with x^8 + x^4 + x^3 + x^2 + 1.
const exponents = new Uint8Array(510);
const logarithms = new Uint8Array(256);
for (let i = 0, x = 1; i < 255; i++, x = (x << 1) ^ (x & 0x80 ? 0x11d : 0)) {
  exponents[i] = exponents[i + 255] = x;
  logarithms[x] = i;
}

/**
 * @param {number} a
 * @param {number} b
 */
const times = (a, b) => (a === 0 || b === 0 ? 0 : exponents[logarithms[a] + logarithms[b]]);

/**
 * The Reed-Solomon code of a block: what is left of it after division by the
 * generator (x - 2^0)(x - 2^1)…
 *
 * @param {number[]} data
 * @param {number} size
 * @returns {number[]}
 */
function reedSolomon(data, size) {
  let generator = [1];
  for (let i = 0; i < size; i++) {
    const next = [...generator, 0];
    generator.forEach((g, at) => {
      next[at + 1] ^= times(g, exponents[i]);
    });
    generator = next;
  }
  const rest = [...data, ...Array(size).fill(0)];
  for (let i = 0; i < data.length; i++) {
    const factor = rest[i];
    generator.forEach((g, at) => {
      rest[i + at] ^= times(g, factor);
    });
  }
  return rest.slice(data.length);
}

/**
 * The codewords of bytes: data, padding, error correction, interleaved.
 *
 * @param {Uint8Array} bytes
 * @param {number} version
 * @returns {number[]}
 */
function codewords(bytes, version) {
  const size = dataSize(version);
  /** @type {number[]} */
  const bits = [];
  const put = (/** @type {number} */ value, /** @type {number} */ count) => {
    for (let i = count - 1; i >= 0; i--) bits.push((value >> i) & 1);
  };
  put(4, 4); // byte mode
  put(bytes.length, version < 10 ? 8 : 16);
  for (const byte of bytes) put(byte, 8);
  put(0, Math.min(4, size * 8 - bits.length));
  while (bits.length % 8 !== 0) bits.push(0);
  const data = Array.from({ length: bits.length / 8 }, (_, i) => bits.slice(i * 8, i * 8 + 8).reduce((sum, bit) => sum * 2 + bit, 0));
  for (let i = 0; data.length < size; i++) data.push(i % 2 === 0 ? 0xec : 0x11);

  const count = blocks[version - 1];
  const short = Math.floor(size / count);
  const shorts = count - (size % count);
  let at = 0;
  const parts = Array.from({ length: count }, (_, i) => data.slice(at, (at += short + (i < shorts ? 0 : 1))));
  const checks = parts.map((part) => reedSolomon(part, correction[version - 1]));
  const across = (/** @type {number[][]} */ lists) =>
    Array.from({ length: Math.max(...lists.map((l) => l.length)) }, (_, i) => lists.flatMap((l) => (i < l.length ? [l[i]] : []))).flat();
  return [...across(parts), ...across(checks)];
}

/** @type {((x: number, y: number) => boolean)[]} */
const masks = [
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/**
 * Appends the BCH code of a value.
 *
 * @param {number} value
 * @param {number} generator
 * @param {number} bits
 */
function bch(value, generator, bits) {
  let rest = value << bits;
  for (let i = 31; i >= bits; i--) if ((rest >> i) & 1) rest ^= generator << (i - bits);
  return (value << bits) | rest;
}

/** A square of modules; undefined: still free. */
class Square {
  /** @param {number} version */
  constructor(version) {
    this.version = version;
    this.size = 17 + 4 * version;
    /** @type {(boolean|undefined)[][]} */
    this.rows = Array.from({ length: this.size }, () => Array(this.size).fill(undefined));
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {boolean} dark
   */
  set(x, y, dark) {
    if (x >= 0 && y >= 0 && x < this.size && y < this.size) this.rows[y][x] = dark;
  }

  /** All patterns that do not depend on the data. */
  patterns() {
    const { size, version } = this;
    for (const [cx, cy] of [[3, 3], [size - 4, 3], [3, size - 4]]) {
      for (let dy = -4; dy <= 4; dy++) {
        for (let dx = -4; dx <= 4; dx++) {
          const ring = Math.max(Math.abs(dx), Math.abs(dy));
          this.set(cx + dx, cy + dy, ring !== 2 && ring !== 4);
        }
      }
    }
    const centres = alignment(version);
    const last = centres.length - 1;
    centres.forEach((cy, i) => centres.forEach((cx, j) => {
      if ((i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0)) return;
      for (let dy = -2; dy <= 2; dy++) for (let dx = -2; dx <= 2; dx++) this.set(cx + dx, cy + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
    }));
    for (let i = 8; i < size - 8; i++) {
      this.set(i, 6, i % 2 === 0);
      this.set(6, i, i % 2 === 0);
    }
    if (version >= 7) {
      const bits = bch(version, 0x1f25, 12);
      for (let i = 0; i < 18; i++) {
        const dark = ((bits >> i) & 1) === 1;
        this.set(size - 11 + (i % 3), Math.floor(i / 3), dark);
        this.set(Math.floor(i / 3), size - 11 + (i % 3), dark);
      }
    }
    this.format(0);
  }

  /**
   * Level M (00) and the mask, twice.
   *
   * @param {number} mask
   */
  format(mask) {
    const { size } = this;
    const bits = bch(mask, 0x537, 10) ^ 0x5412;
    for (let i = 0; i < 15; i++) {
      const dark = ((bits >> i) & 1) === 1;
      // Around the finder at the top left; the timing patterns are passed over.
      if (i < 8) this.set(8, i < 6 ? i : i + 1, dark);
      else this.set(i === 8 ? 7 : 14 - i, 8, dark);
      if (i < 8) this.set(size - 1 - i, 8, dark);
      else this.set(8, size - 15 + i, dark);
    }
    this.set(8, size - 8, true);
  }

  /** Free modules in the order in which data fills them. @returns {[number, number][]} */
  free() {
    const { size } = this;
    /** @type {[number, number][]} */
    const out = [];
    let up = true;
    for (let right = size - 1; right > 0; right -= 2) {
      if (right === 6) right = 5;
      for (let i = 0; i < size; i++) {
        const y = up ? size - 1 - i : i;
        for (const x of [right, right - 1]) if (this.rows[y][x] === undefined) out.push([x, y]);
      }
      up = !up;
    }
    return out;
  }

  text() {
    return this.rows.map((row) => row.map((dark) => (dark ? '1' : '0')).join(''));
  }
}

/**
 * How badly a square reads: runs, blocks, what looks like a finder, and too much of
 * one colour.
 *
 * @param {string[]} rows
 */
function penalty(rows) {
  const size = rows.length;
  const columns = rows.map((_, x) => rows.map((row) => row[x]).join(''));
  let sum = 0;
  for (const line of [...rows, ...columns]) {
    for (const run of line.matchAll(/0{5,}|1{5,}/g)) sum += run[0].length - 2;
    for (const pattern of ['10111010000', '00001011101']) {
      for (let at = line.indexOf(pattern); at >= 0; at = line.indexOf(pattern, at + 1)) sum += 40;
    }
  }
  for (let y = 0; y + 1 < size; y++) {
    for (let x = 0; x + 1 < size; x++) {
      const c = rows[y][x];
      if (c === rows[y][x + 1] && c === rows[y + 1][x] && c === rows[y + 1][x + 1]) sum += 3;
    }
  }
  const dark = rows.join('').replaceAll('0', '').length;
  return sum + 10 * Math.floor(Math.abs((dark * 20) / (size * size) - 10));
}

/**
 * The rows of the QR code of a text, "1" for a dark module, without the quiet zone.
 *
 * @param {string} text
 * @param {number} [mask] 0 to 7; by default the one that reads best
 * @returns {string[]}
 * @throws {RangeError} if the text is too long (about 600 bytes)
 */
export function encode(text, mask) {
  const bytes = utf8(text);
  const version = correction.findIndex((_, i) => bytes.length + (i + 1 < 10 ? 2 : 3) <= dataSize(i + 1)) + 1;
  if (version === 0) throw new RangeError('too long for a QR code');
  const words = codewords(bytes, version);
  const make = (/** @type {number} */ m) => {
    const square = new Square(version);
    square.patterns();
    square.free().forEach(([x, y], i) => {
      const bit = i >> 3 < words.length ? (words[i >> 3] >> (7 - (i & 7))) & 1 : 0;
      square.set(x, y, (bit === 1) !== masks[m](x, y));
    });
    square.format(m);
    return square.text();
  };
  if (mask !== undefined) return make(mask);
  const all = masks.map((_, m) => make(m));
  const costs = all.map(penalty);
  return all[costs.indexOf(Math.min(...costs))];
}
