/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame protocol between the PAM module and authd, version 1, in short.
 * docs/reference/frames.md explains it.
 */
#ifndef SALLYPORT_FRAME_H
#define SALLYPORT_FRAME_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for struct ucred; this header stands first everywhere */
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FRAME_MAGIC0 'S'
#define FRAME_MAGIC1 'P'
#define FRAME_VERSION 1
#define FRAME_HEADER_SIZE 8
#define FRAME_PAYLOAD_MAX 8192
#define FRAME_TEXT_MAX 4096
#define FRAME_ANSWER_MAX 512
#define FRAME_ROUNDS_MAX 64

enum frame_type {
	FRAME_REQUEST = 1, FRAME_ANSWER = 2, FRAME_ABORT = 3, FRAME_SHOW = 16, FRAME_ASK = 17,
	FRAME_ASK_SECRET = 18, FRAME_WAIT = 19, FRAME_DONE = 20,
};

enum frame_tag {
	TAG_HOOK = 1, TAG_FLAGS = 2, TAG_UIDS = 3, TAG_VERSION = 4, TAG_SERVICE = 5, TAG_USER = 6,
	TAG_TTY = 7, TAG_RHOST = 8, TAG_RUSER = 9, TAG_PAM_ENV = 10, TAG_PROC_ENV = 11, TAG_TEXT = 16,
	TAG_STYLE = 17, TAG_MILLIS = 18, TAG_OUTCOME = 19, TAG_REASON = 20, TAG_TOO_LONG = 21,
};

enum frame_hook {
	HOOK_AUTHENTICATE = 1, HOOK_ACCT_MGMT = 2, HOOK_SETCRED = 3, HOOK_OPEN_SESSION = 4,
	HOOK_CLOSE_SESSION = 5, HOOK_CHAUTHTOK = 6,
};

enum frame_outcome {
	OUTCOME_NONE = 0, /* never in a frame */
	OUTCOME_ALLOW = 1, OUTCOME_DENY = 2, OUTCOME_MAX_TRIES = 3, OUTCOME_USER_UNKNOWN = 4,
	OUTCOME_UNAVAILABLE = 5, OUTCOME_ABORTED = 6,
};

enum frame_style { STYLE_INFO = 1, STYLE_ERROR = 2 };

enum frame_reason { REASON_CONVERSATION = 1, REASON_ROUNDS = 2 };

/* Greatest length of what goes into a REQUEST. Longer values are refused, never
 * cut: half a name is another name. */
#define FRAME_NAME_MAX 255     /* service, user, tty, rhost, ruser */
#define FRAME_PAM_ENV_MAX 6144 /* NAME=VALUE; SSH_AUTH_INFO_0 can hold a certificate */
#define FRAME_COMMAND_MAX 4096 /* SUDO_COMMAND; sudo cuts its arguments at 4096 bytes */
#define FRAME_PROC_ENV_MAX (64 + FRAME_COMMAND_MAX) /* NAME=VALUE */

#define FRAME_ENV_COUNT 5

struct frame_env {
	enum frame_tag tag; /* TAG_PAM_ENV or TAG_PROC_ENV */
	const char *name;
	const char *value; /* NULL: not sent */
};

/* What the module tells the daemon in its first frame. A NULL or empty string
 * is not sent; service and user must not be empty. */
struct frame_request {
	enum frame_hook hook;
	uint32_t flags;
	uid_t ruid, euid;
	const char *version, *service, *user, *tty, *rhost, *ruser;
	struct frame_env env[FRAME_ENV_COUNT];
};

/* A frame from the daemon. Which members count depends on the type. */
struct frame {
	enum frame_type type;
	char *text; /* in the payload's buffer, ends with NUL */
	uint32_t millis;
	enum frame_style style;
	enum frame_outcome outcome;
};

/* Room for one frame, and a NUL behind it. */
struct frame_buffer {
	size_t len;
	uint8_t bytes[FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX + 1];
};

/* frame_header checks the header of a frame from the daemon: the length of the
 * payload that follows, or -1 for a broken frame. */
ssize_t frame_header(const uint8_t header[FRAME_HEADER_SIZE]);

/* frame_parse takes apart the frame in b, whose header frame_header has passed
 * and whose payload is complete. False: broken, out means nothing. It writes NULs
 * behind texts, so b cannot be parsed twice. */
bool frame_parse(struct frame_buffer *b, struct frame *out);

/* frame_put_request encodes r into b. NULL, or the name of what does not fit. */
const char *frame_put_request(struct frame_buffer *b, const struct frame_request *r);

/* frame_put_answer encodes an answer; TOO_LONG stands for one over FRAME_ANSWER_MAX. */
void frame_put_answer(struct frame_buffer *b, const char *answer, size_t len);

void frame_put_abort(struct frame_buffer *b, enum frame_reason reason);

/* frame_clean replaces what a terminal must not get: control characters other
 * than newline and tab, and bytes that are not UTF-8, each by one '?'. */
void frame_clean(char *text);

#endif
