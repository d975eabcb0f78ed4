// SPDX-License-Identifier: Apache-2.0
// A user agent of Web Push in WebCrypto: reads {key, auth, bodies} from standard
// input, all in base64url but the key, which is a JWK; prints the texts of bodies.

import { webcrypto } from 'node:crypto'; // Node 18 has no global one

const { subtle } = webcrypto;
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64url'));
const utf8 = (text) => new TextEncoder().encode(text);

async function hkdf(ikm, salt, info, length) {
	const key = await subtle.importKey('raw', ikm, 'HKDF', false, ['deriveBits']);
	return new Uint8Array(await subtle.deriveBits({name: 'HKDF', hash: 'SHA-256', salt, info}, key, length * 8));
}

// open decrypts one message (RFC 8291, section 3.4).
async function open(body, jwk, auth) {
	const p256 = {name: 'ECDH', namedCurve: 'P-256'};
	const mine = await subtle.importKey('jwk', jwk, p256, false, ['deriveBits']);
	const point = Buffer.concat([Buffer.of(4), bytes(jwk.x), bytes(jwk.y)]);
	const salt = body.subarray(0, 16);
	const end = 21 + body[20];
	const sender = body.subarray(21, end);
	const theirs = await subtle.importKey('raw', sender, p256, false, []);
	const secret = await subtle.deriveBits({name: 'ECDH', public: theirs}, mine, 256);
	const ikm = await hkdf(secret, auth, Buffer.concat([utf8('WebPush: info\0'), point, sender]), 32);
	const key = await subtle.importKey('raw', await hkdf(ikm, salt, utf8('Content-Encoding: aes128gcm\0'), 16), 'AES-GCM', false, ['decrypt']);
	const iv = await hkdf(ikm, salt, utf8('Content-Encoding: nonce\0'), 12);
	const plain = new Uint8Array(await subtle.decrypt({name: 'AES-GCM', iv}, key, body.subarray(end)));
	const delimiter = plain.findLastIndex((b) => b !== 0);
	if (plain[delimiter] !== 2) throw new Error('the delimiter is wrong');
	return new TextDecoder().decode(plain.subarray(0, delimiter));
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const {key, auth, bodies} = JSON.parse(Buffer.concat(chunks).toString());
console.log(JSON.stringify(await Promise.all(bodies.map((body) => open(bytes(body), key, bytes(auth))))));
