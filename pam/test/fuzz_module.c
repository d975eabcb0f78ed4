/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: the whole module against a daemon that sends anything, under
 * system calls that fail. Input: eight bytes that set the world, then the daemon's.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include "fake.h"

#include <errno.h>
#include <string.h>

#include <security/pam_modules.h>

#include "../frame.h"

static const int errors[] = { EINTR, EAGAIN, EMFILE, ENOMEM, ECONNRESET, EIO, ENOENT, ECONNREFUSED };

/* ends_with_allow walks the frames that the module has read, by rules of its own. */
static bool ends_with_allow(const struct side *from)
{
	const uint8_t *p = from->segments[0].bytes;
	size_t len = from->received;

	while (len >= 8) {
		size_t size = (size_t)p[6] << 8 | p[7];

		if (size > len - 8)
			return false;
		if (p[3] == FRAME_DONE)
			return size == len - 8 && memmem(p + 8, size, "\x13\0\1\1", 4) != NULL;
		p += 8 + size;
		len -= 8 + size;
	}
	return false;
}

static void says(struct side *who, const uint8_t *data, size_t size)
{
	who->connect_error = 0;
	who->segments[0] = (struct segment){ 0, size, data };
	who->segment_count = size > 0 ? 1 : 0;
	who->segments[who->segment_count++] = (struct segment){ 100, 0, NULL };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *args[] = { data[0] & 0x80 ? "unreachable=allow" : "debug", "timeout=60" };
	int hook, code;
	bool unreachable, silent;
	uint8_t flags;

	if (size < 8)
		return 0;
	hook = data[0] % 6 + 1;
	flags = data[1];
	silent = data[7] & 4;
	memset(&world, 0, sizeof world);
	world.first_fd = data[1] & 7;
	world.recv_max = data[1] >> 5;
	world.send_max = data[2] & 0x0f;
	world.user = data[2] & 0x10 ? "a\nlice\x1b" : "alice";
	world.service = "fuzz";
	world.rhost = data[2] & 0x20 ? "192.0.2.7" : NULL;
	world.answer = data[2] & 0x40 ? NULL : "answer";
	world.null_answer = data[2] & 0x80;
	world.faults[0] = (struct fault){ .at = data[3], .error = errors[data[4] % 8], .forever = data[4] & 0x40 };
	world.faults[1] = (struct fault){ .at = data[5], .error = errors[data[6] % 8] };
	world.tick_ms = data[7] & 3;
	world.pam_fault = data[7] >> 4;
	data += 8;
	size -= 8;
	world.breakglass.connect_error = ENOENT;
	if (flags & 8) { /* the second half is what break-glass says */
		says(&world.breakglass, data + size / 2, size - size / 2);
		size /= 2;
	}
	says(&world.authd, data, size);

	code = call_hook(hook, silent ? PAM_SILENT : 0, 2, args);
	world_ends();
	CHECK(code != PAM_IGNORE, "PAM_IGNORE");
	CHECK(world.waited_ms <= 60000, "waited for %lld ms", (long long)world.waited_ms);
	unreachable = args[0][0] == 'u' && (world.authd.last_connect_error == ENOENT || world.authd.last_connect_error == ECONNREFUSED);
	if (code == PAM_SUCCESS && hook != HOOK_SETCRED && hook != HOOK_CLOSE_SESSION && !unreachable)
		CHECK(ends_with_allow(&world.authd) || ends_with_allow(&world.breakglass), "let in without DONE");
	CHECK(code != PAM_SUCCESS || !world.breakglass.asked_to_connect || ends_with_allow(&world.breakglass), "let in without break-glass");
	return 0;
}
