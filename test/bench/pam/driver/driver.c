/* SPDX-License-Identifier: Apache-2.0
 *
 * One measurement in a process of its own:
 *
 *   driver pam CONFDIR SERVICE        pam_start, pam_authenticate, pam_end
 *   driver memory CONFDIR SERVICE     the same, then the memory before pam_end
 *   driver exchange SOCKET REQUEST    connect, write, read, close, without PAM
 *   driver nothing                    what a process costs by itself
 *
 * It prints nanoseconds, or kibibytes of RSS, PSS and private dirty memory.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <security/pam_appl.h>

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	(void)count, (void)messages, (void)responses, (void)data;
	return PAM_CONV_ERR;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long field(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p == NULL ? -1 : strtol(p + strlen(name), NULL, 10);
}

static void print_memory(void)
{
	char text[4096];
	int fd = open("/proc/self/smaps_rollup", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (n < 0)
		die("/proc/self/smaps_rollup");
	text[n] = 0;
	printf("%ld %ld %ld\n", field(text, "\nRss:"), field(text, "\nPss:"), field(text, "\nPrivate_Dirty:"));
}

static void transaction(const char *confdir, const char *service, int memory)
{
	static const struct pam_conv conv = { converse, NULL };
	pam_handle_t *pamh = NULL;
	int64_t begin = now_ns();
	int code;

	if (pam_start_confdir(service, "root", &conv, confdir, &pamh) != PAM_SUCCESS)
		die("pam_start");
	code = pam_authenticate(pamh, 0);
	if (code != PAM_SUCCESS) {
		fprintf(stderr, "pam_authenticate: %d\n", code);
		exit(1);
	}
	if (memory)
		print_memory();
	pam_end(pamh, code);
	if (!memory)
		printf("%lld\n", (long long)(now_ns() - begin));
}

static void exchange(const char *path, const char *file)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char request[8200], reply[64];
	int in = open(file, O_RDONLY);
	ssize_t len = in < 0 ? -1 : read(in, request, sizeof request);
	int64_t begin;
	int fd;

	if (len <= 0)
		die(file);
	close(in);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	begin = now_ns();
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
		die(path);
	if (write(fd, request, (size_t)len) != len || read(fd, reply, sizeof reply) != 12 || reply[11] != 1)
		die("exchange");
	close(fd);
	printf("%lld\n", (long long)(now_ns() - begin));
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "pam") == 0)
		transaction(argv[2], argv[3], 0);
	else if (argc == 4 && strcmp(argv[1], "memory") == 0)
		transaction(argv[2], argv[3], 1);
	else if (argc == 4 && strcmp(argv[1], "exchange") == 0)
		exchange(argv[2], argv[3]);
	else if (argc == 2 && strcmp(argv[1], "nothing") == 0)
		puts("0");
	else
		return 2;
	return 0;
}
