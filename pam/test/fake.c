/* SPDX-License-Identifier: Apache-2.0 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <security/pam_modules.h>
#include <security/pam_ext.h>

#include "../frame.h"

struct world world;

void broken(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("broken: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n  faults %u:%d %u:%d, calls %u, log %s\n", world.faults[0].at, world.faults[0].error,
		world.faults[1].at, world.faults[1].error, world.calls, world.log);
	va_end(args);
	abort();
}

/* step counts a system call, and says whether it fails. */
static bool step(void)
{
	world.calls++;
	world.now_ms += world.tick_ms;
	CHECK(world.calls < 200000, "endless loop");
	for (int i = 0; i < FAKE_FAULTS; i++) {
		const struct fault *f = &world.faults[i];

		if (f->at != 0 && (world.calls == f->at || (f->forever && world.calls > f->at))) {
			errno = f->error;
			return true;
		}
	}
	return false;
}

/* final_step is a system call that is never interrupted. */
static bool final_step(void)
{
	bool fails = step();

	world.final_fault |= fails;
	return fails;
}

static void check_open(int fd)
{
	CHECK(fd >= 3 && fd < 16 && world.open[fd], "system call on descriptor %d", fd);
}

static int new_fd(int from)
{
	for (int fd = from; fd < 16; fd++) {
		if (world.open[fd])
			continue;
		world.open[fd] = true;
		world.sockets++;
		return fd;
	}
	errno = EMFILE;
	return -1;
}

int __wrap_socket(int domain, int type, int protocol)
{
	CHECK(domain == AF_UNIX && protocol == 0 && type == (SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), "odd socket");
	return final_step() ? -1 : new_fd(world.first_fd);
}

int __wrap_fcntl(int fd, int command, int from)
{
	CHECK(fd >= 0 && fd < 3 && world.open[fd] && command == F_DUPFD_CLOEXEC && from == 3, "odd fcntl");
	return final_step() ? -1 : new_fd(from);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)address;
	int error;

	check_open(fd);
	CHECK(len == sizeof *un && memchr(un->sun_path, 0, sizeof un->sun_path) != NULL, "odd address");
	world.side = strstr(un->sun_path, "/breakglass.sock") != NULL ? &world.breakglass : &world.authd;
	world.side->asked_to_connect = true;
	if (step()) {
		world.side->last_connect_error = errno;
		return -1;
	}
	error = world.side->connect_error;
	if (world.side->queue_full > 0) {
		world.side->queue_full--;
		error = EAGAIN;
	}
	world.side->last_connect_error = errno = error;
	return error == 0 ? 0 : -1;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct ucred peer = { .pid = 1, .uid = world.side->peer_uid, .gid = world.side->peer_uid };

	check_open(fd);
	CHECK(level == SOL_SOCKET && name == SO_PEERCRED && *len == sizeof peer, "odd getsockopt");
	if (final_step())
		return -1;
	memcpy(value, &peer, sizeof peer);
	return 0;
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
	check_open(fd);
	CHECK(flags == (MSG_DONTWAIT | MSG_NOSIGNAL), "send with flags %d", flags);
	if (step())
		return -1;
	if (world.never_writable) {
		errno = EAGAIN;
		return -1;
	}
	if (world.send_max != 0 && len > world.send_max)
		len = world.send_max;
	CHECK(len <= sizeof world.sent - world.sent_len, "the module sends without end");
	memcpy(world.sent + world.sent_len, data, len);
	world.sent_len += len;
	return (ssize_t)len;
}

/* arrived gives the segment that can be read at this time. */
static const struct segment *arrived(void)
{
	const struct segment *s = &world.side->segments[world.side->segment];

	return world.side->segment < world.side->segment_count && s->at_ms <= world.now_ms ? s : NULL;
}

ssize_t __wrap_recv(int fd, void *data, size_t len, int flags)
{
	const struct segment *s;

	check_open(fd);
	CHECK(flags == MSG_DONTWAIT && len > 0, "recv with flags %d", flags);
	if (step())
		return -1;
	s = arrived();
	if (s == NULL) {
		errno = EAGAIN;
		return -1;
	}
	if (s->len == 0)
		return 0;
	if (len > s->len - world.side->segment_pos)
		len = s->len - world.side->segment_pos;
	if (world.recv_max != 0 && len > world.recv_max)
		len = world.recv_max;
	memcpy(data, s->bytes + world.side->segment_pos, len);
	world.side->segment_pos += len;
	world.side->received += len;
	if (world.side->segment_pos == s->len) {
		world.side->segment++;
		world.side->segment_pos = 0;
	}
	return (ssize_t)len;
}

static int sleep_until(int64_t at)
{
	if (at > world.now_ms) {
		world.waited_ms += at - world.now_ms;
		world.now_ms = at;
	}
	return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int64_t end = world.now_ms + timeout;

	CHECK(timeout >= 0, "poll without a deadline");
	CHECK(count <= 1, "odd poll");
	if (step())
		return -1;
	if (count == 0)
		return sleep_until(end);
	check_open(fds->fd);
	if (fds->events == POLLOUT) {
		if (world.never_writable)
			return sleep_until(end);
		return 1;
	}
	if (world.side->segment >= world.side->segment_count || world.side->segments[world.side->segment].at_ms > end)
		return sleep_until(end);
	sleep_until(world.side->segments[world.side->segment].at_ms);
	return 1;
}

int __wrap_close(int fd)
{
	CHECK(fd >= 0 && fd < 16 && world.open[fd], "descriptor %d closed that is not open", fd);
	world.open[fd] = false; /* also when close fails, as in Linux */
	world.closes++;
	return step() ? -1 : 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	CHECK(clock == CLOCK_MONOTONIC, "clock %d", (int)clock);
	if (final_step())
		return -1;
	t->tv_sec = 1000000 + world.now_ms / 1000;
	t->tv_nsec = world.now_ms % 1000 * 1000000;
	return 0;
}

uid_t __wrap_geteuid(void) { return 0; }

char *__wrap_getenv(const char *name)
{
	return strcmp(name, "SALLYPORT_PASSCODE") == 0 ? (char *)world.passcode : NULL;
}

void __real_free(void *p);

/* What was typed must be wiped when it is freed. */
void __wrap_free(void *p)
{
	if (p != NULL && p == world.typed) {
		for (size_t i = 0; i < world.typed_len; i++)
			CHECK(world.typed[i] == 0, "an answer was freed and not wiped");
		world.typed = NULL;
	}
	__real_free(p);
}

/* libpam. */

static bool pam_step(void)
{
	return ++world.pam_calls == (unsigned)world.pam_fault;
}

static const char *user(void)
{
	if (world.user_copy == NULL && world.user != NULL)
		world.user_copy = strdup(world.user);
	return world.user_copy;
}

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	struct pam_response *r;
	const char *text = messages[0]->msg;

	CHECK(count == 1 && data == &world, "odd conversation");
	for (const char *p = text; *p != 0; p++)
		CHECK((unsigned char)*p >= ' ' || *p == '\n' || *p == '\t', "control character %d shown", *p);
	world.now_ms += world.typing_ms;
	free(world.user_copy);
	world.user_copy = NULL;
	if (messages[0]->msg_style == PAM_TEXT_INFO || messages[0]->msg_style == PAM_ERROR_MSG)
		world.shown++;
	else
		world.asked++;
	if (world.answer == NULL)
		return PAM_CONV_ERR;
	r = calloc(1, sizeof *r);
	CHECK(r != NULL, "out of memory");
	if (!world.null_answer) {
		CHECK(world.typed == NULL, "an answer was neither wiped nor freed");
		r->resp = world.typed = strdup(world.answer);
		world.typed_len = strlen(world.answer);
	}
	*responses = r;
	return PAM_SUCCESS;
}

int pam_get_item(const pam_handle_t *pamh, int item, const void **value)
{
	static struct pam_conv conv;

	(void)pamh;
	if (pam_step())
		return PAM_BAD_ITEM;
	conv.conv = world.no_conversation ? NULL : converse;
	conv.appdata_ptr = &world;
	switch (item) {
	case PAM_CONV:
		*value = &conv;
		break;
	case PAM_USER:
		*value = user();
		break;
	case PAM_SERVICE:
		*value = world.service;
		break;
	case PAM_RHOST:
		*value = world.rhost;
		break;
	default:
		*value = NULL;
	}
	return PAM_SUCCESS;
}

int pam_get_user(pam_handle_t *pamh, const char **name, const char *prompt)
{
	(void)pamh, (void)prompt;
	if (pam_step())
		return PAM_CONV_ERR;
	*name = user();
	return PAM_SUCCESS;
}

const char *pam_getenv(pam_handle_t *pamh, const char *name)
{
	(void)pamh;
	return strcmp(name, "SSH_AUTH_INFO_0") == 0 ? world.auth_info : world.connection;
}

void pam_syslog(const pam_handle_t *pamh, int priority, const char *format, ...)
{
	va_list args;

	(void)pamh, (void)priority;
	va_start(args, format);
	vsnprintf(world.log, sizeof world.log, format, args);
	va_end(args);
	for (const char *p = world.log; *p != 0; p++)
		CHECK((unsigned char)*p >= ' ', "control character in the log");
}

int call_hook(int hook, int flags, int argc, const char **argv)
{
	pam_handle_t *pamh = (pam_handle_t *)&world; /* only ever handed back to the functions above */

	switch (hook) {
	case HOOK_AUTHENTICATE:
		return pam_sm_authenticate(pamh, flags, argc, argv);
	case HOOK_ACCT_MGMT:
		return pam_sm_acct_mgmt(pamh, flags, argc, argv);
	case HOOK_OPEN_SESSION:
		return pam_sm_open_session(pamh, flags, argc, argv);
	case HOOK_CLOSE_SESSION:
		return pam_sm_close_session(pamh, flags, argc, argv);
	case HOOK_SETCRED:
		return pam_sm_setcred(pamh, flags, argc, argv);
	default:
		return pam_sm_chauthtok(pamh, flags, argc, argv);
	}
}

void world_ends(void)
{
	free(world.user_copy);
	world.user_copy = NULL;
	for (int fd = 0; fd < 16; fd++)
		CHECK(!world.open[fd], "descriptor %d left open", fd);
	CHECK(world.sockets == world.closes, "%u descriptors, %u closed", world.sockets, world.closes);
	CHECK(world.typed == NULL, "an answer was neither wiped nor freed");
}

__attribute__((noinline, no_sanitize("address", "undefined"))) bool stack_holds(const char *text)
{
	volatile char here = 0;
	const volatile char *low = &here - 48 * 1024;
	size_t len = strlen(text);

	for (const volatile char *p = low; p < &here - len; p++) {
		size_t i = 0;

		while (i < len && p[i] == text[i])
			i++;
		if (i == len)
			return true;
	}
	return false;
}
