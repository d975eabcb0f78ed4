/* SPDX-License-Identifier: Apache-2.0
 *
 * A world for the module without a kernel: system calls, libpam and a daemon made
 * of data, under a clock that only moves when something waits. One world at a time.
 */
#ifndef SALLYPORT_FAKE_H
#define SALLYPORT_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_FAULTS 3
#define FAKE_SEGMENTS 80
#define FAKE_SENT_MAX 65536

/* Bytes of the daemon, and when they arrive. */
struct segment {
	int64_t at_ms; /* since the start of the world */
	size_t len;    /* 0: the daemon closes */
	const uint8_t *bytes;
};

struct fault {
	unsigned at;  /* the how manieth call fails, from 1; 0: none */
	int error;    /* errno; for FAULT_CLOCK the clock fails */
	bool forever; /* and all after it */
};

/* One of the two daemons that the module may connect to. */
struct side {
	/* Set before a call. */
	struct segment segments[FAKE_SEGMENTS]; /* ends with len 0 or segment_count */
	unsigned segment_count;
	int connect_error;   /* ENOENT and so on */
	unsigned queue_full; /* how often connect gives EAGAIN first */
	unsigned peer_uid;

	/* Found afterwards. */
	size_t received;
	int last_connect_error;
	bool asked_to_connect;

	/* The world's own. */
	unsigned segment;
	size_t segment_pos;
};

struct world {
	/* Set before a call. */
	struct side authd, breakglass;
	size_t recv_max, send_max; /* most bytes of one call, 0: any number */
	struct fault faults[FAKE_FAULTS];
	int first_fd;		/* what socket gives */
	bool never_writable;
	int64_t tick_ms;	/* how long each system call takes */
	int64_t typing_ms;	/* how long a person takes to answer */
	const char *answer;	/* NULL: the conversation fails */
	bool no_conversation;
	bool null_answer;
	const char *user, *service, *rhost, *auth_info, *connection, *passcode;
	int pam_fault; /* the how manieth call of libpam fails, from 1 */

	/* Found afterwards. */
	unsigned calls, pam_calls;
	int64_t now_ms, waited_ms; /* waited: in poll alone */
	bool open[16];
	unsigned sockets, closes;
	unsigned shown, asked;
	uint8_t sent[FAKE_SENT_MAX];
	size_t sent_len;
	bool final_fault; /* a call failed that is never interrupted */
	char log[4096];

	/* The world's own. */
	struct side *side; /* the one that was connected to last */
	char *user_copy; /* another one after each message, as a host may set PAM_USER */
	char *typed;
	size_t typed_len;
};

extern struct world world;

/* Each mistake that the world sees ends the program. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define CHECK(what, ...) do { if (!(what)) broken(__VA_ARGS__); } while (0)

/* world_ends checks what must hold after every call: descriptors closed once each,
 * nothing secret left behind. */
void world_ends(void);

/* stack_holds looks for text in the dead stack below the caller. */
bool stack_holds(const char *text);

/* Calls the hook that has this number in the protocol. */
int call_hook(int hook, int flags, int argc, const char **argv);

#endif
