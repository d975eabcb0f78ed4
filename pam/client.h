/* SPDX-License-Identifier: Apache-2.0
 *
 * The module's side of one call: connect to authd, send the REQUEST, do what the
 * daemon says until DONE. It knows sockets, deadlines and frames; PAM it does not
 * know, and it keeps nothing from one call to the next.
 */
#ifndef SALLYPORT_CLIENT_H
#define SALLYPORT_CLIENT_H

#include "frame.h"

/* The limits of docs/reference/frames.md, in milliseconds. */
#define CLIENT_CONNECT_MS 1000
#define CLIENT_WRITE_MS 5000
#define CLIENT_READ_MS 10000

/* Why a call failed, with its name in the log and in docs/reference/pam-module.md. */
#define CLIENT_FAILURES(X)                                                                    \
	X(FAILED_NOT, "none")                                                                 \
	X(FAILED_NO_SOCKET, "no-socket")         /* connect: ENOENT */                        \
	X(FAILED_REFUSED, "refused")             /* connect: ECONNREFUSED */                  \
	X(FAILED_CONNECT, "connect-error")       /* connect: anything else */                 \
	X(FAILED_CONNECT_LIMIT, "connect-limit") /* the queue of the socket stayed full */    \
	X(FAILED_RESOURCES, "no-resources")      /* no socket: EMFILE, ENFILE, ENOMEM, ... */ \
	X(FAILED_PEER, "wrong-owner")            /* the socket was made by another uid */     \
	X(FAILED_TOO_LARGE, "too-large")         /* something of the REQUEST */               \
	X(FAILED_GONE, "gone")                   /* the daemon closed the connection */       \
	X(FAILED_IO, "io-error")                 /* reading, writing or waiting failed */     \
	X(FAILED_WRITE_LIMIT, "write-limit")                                                  \
	X(FAILED_READ_LIMIT, "read-limit")                                                    \
	X(FAILED_WAIT_LIMIT, "wait-limit")       /* what a WAIT granted has passed */         \
	X(FAILED_TIMEOUT, "timeout")             /* timeout= has passed */                    \
	X(FAILED_BROKEN, "broken-frame")         /* no frame, or not allowed here */          \
	X(FAILED_ROUNDS, "too-many-rounds")

#define CLIENT_FAILURE_VALUE(value, name) value,
enum client_failure { CLIENT_FAILURES(CLIENT_FAILURE_VALUE) };

#define CLIENT_ASK_FAILED (-1)

/* How the client reaches the person. Both are called on the caller's stack. */
struct client_conversation {
	void *context;
	/* show presents a message; what becomes of it is not asked. */
	void (*show)(void *context, enum frame_style style, const char *text);
	/* ask puts at most size bytes of the answer in answer and returns the answer's
	 * length, which may be greater than size, or CLIENT_ASK_FAILED. */
	ssize_t (*ask)(void *context, bool echo, const char *text, char *answer, size_t size);
};

struct client {
	/* Set by the caller. */
	const char *socket_path;
	uid_t server_uid;	/* who must have made the socket */
	int64_t timeout_ms;	/* all waiting for the daemon in this call */
	bool may_ask;
	struct client_conversation conversation;

	/* Set by the client, for the log. */
	enum client_failure failure;
	int error;		/* errno, or 0 */
	uid_t peer_uid;		/* who made the socket, -1 if not known */
	const char *too_large;	/* FAILED_TOO_LARGE: the name of what is */
	int64_t limit_ms;	/* the limit that passed */
	int64_t waited_ms;	/* how long the call has waited for the daemon */
	unsigned rounds;

	/* The client's own. */
	int fd;
	int64_t waiting_since; /* INT64_MAX: not waiting */
	bool nobody;	       /* the conversation has failed */
	struct frame_buffer buffer;
};

/* client_call makes the whole call: the daemon's outcome, or OUTCOME_NONE with failure and
 * what goes with it set. Whatever the buffer held is wiped, the socket closed. */
enum frame_outcome client_call(struct client *c, const struct frame_request *r);

const char *client_failure_name(enum client_failure f);

#endif
