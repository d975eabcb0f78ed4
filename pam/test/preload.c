/* SPDX-License-Identifier: Apache-2.0
 *
 * Loaded in front of the C library by the tests: system calls of the module fail,
 * or time flies.
 *
 *   FAULT=NAME:ERRNO   each call of socket, connect, getsockopt, send, recv or poll fails
 *   FLY=timeout        a poll that finds nothing within 500 ms takes its whole time-out,
 *                      by a clock that jumps
 *   FLY=always         every poll takes two seconds by that clock
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PATIENCE_MS 500

static long long skew_ms;

static bool fails(const char *name)
{
	const char *fault = getenv("FAULT");
	size_t len = strlen(name);

	if (fault == NULL || strncmp(fault, name, len) != 0 || fault[len] != ':')
		return false;
	errno = atoi(fault + len + 1);
	return true;
}

static void *next(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (f == NULL)
		abort();
	return f;
}

int socket(int domain, int type, int protocol)
{
	int (*real)(int, int, int) = next("socket");

	return fails("socket") ? -1 : real(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
	int (*real)(int, const struct sockaddr *, socklen_t) = next("connect");

	return fails("connect") ? -1 : real(fd, address, len);
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len)
{
	int (*real)(int, int, int, void *, socklen_t *) = next("getsockopt");

	return fails("getsockopt") ? -1 : real(fd, level, name, value, len);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	ssize_t (*real)(int, const void *, size_t, int) = next("send");

	return fails("send") ? -1 : real(fd, data, len, flags);
}

ssize_t recv(int fd, void *data, size_t len, int flags)
{
	ssize_t (*real)(int, void *, size_t, int) = next("recv");

	return fails("recv") ? -1 : real(fd, data, len, flags);
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int (*real)(struct pollfd *, nfds_t, int) = next("poll");
	const char *fly = getenv("FLY");
	int ready;

	if (fails("poll"))
		return -1;
	if (fly == NULL)
		return real(fds, count, timeout);
	if (fails("send")) { /* what cannot be sent is not ready either */
		skew_ms += timeout;
		return 0;
	}
	ready = real(fds, count, timeout < PATIENCE_MS ? timeout : PATIENCE_MS);
	if (strcmp(fly, "always") == 0)
		skew_ms += 2000;
	else if (ready == 0 && timeout > PATIENCE_MS)
		skew_ms += timeout - PATIENCE_MS;
	return ready;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int (*real)(clockid_t, struct timespec *) = next("clock_gettime");
	int code = real(clock, t);

	t->tv_sec += skew_ms / 1000;
	t->tv_nsec += skew_ms % 1000 * 1000000;
	if (t->tv_nsec >= 1000000000) {
		t->tv_nsec -= 1000000000;
		t->tv_sec++;
	}
	return code;
}
