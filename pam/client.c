/* SPDX-License-Identifier: Apache-2.0 */

#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_RETRY_MS 10

/* One limit on one piece of waiting, and what to say when it passes. */
struct limit {
	int64_t start, end;
	enum client_failure failure;
};

static bool fail(struct client *c, enum client_failure failure, int error)
{
	c->failure = failure;
	c->error = error;
	return false;
}

/* A clock that cannot be read makes every deadline a past one. */
static int64_t now_ms(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
		return INT64_MAX;
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* limit_begin starts a wait of at most ms, cut to what is left of timeout=. */
static struct limit limit_begin(struct client *c, int64_t ms, enum client_failure failure)
{
	int64_t left = c->timeout_ms - c->waited_ms;
	struct limit l = { .start = now_ms(), .failure = failure };

	if (left < ms) {
		ms = left;
		l.failure = FAILED_TIMEOUT;
	}
	l.end = l.start == INT64_MAX ? 0 : l.start + ms;
	c->waiting_since = l.start;
	return l;
}

static bool limit_passed(struct client *c, const struct limit *l)
{
	c->limit_ms = l->failure == FAILED_TIMEOUT ? c->timeout_ms : l->end - l->start;
	return fail(c, l->failure, 0);
}

/* book counts the time since limit_begin, once, and returns what the clock says. */
static int64_t book(struct client *c)
{
	int64_t now = now_ms();

	if (now != INT64_MAX && now > c->waiting_since)
		c->waited_ms += now - c->waiting_since;
	c->waiting_since = INT64_MAX;
	return now;
}

/* limit_end books the time that has passed; false if it was too much. */
static bool limit_end(struct client *c, const struct limit *l)
{
	return book(c) < l->end || limit_passed(c, l);
}

/* wait_ready waits until fd is ready or the limit has passed, whichever it is. */
static bool wait_ready(struct client *c, short events, const struct limit *l)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	int64_t left = l->end - now_ms();

	if (left > 0 && poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left) < 0 && errno != EINTR)
		return fail(c, FAILED_IO, errno);
	return true;
}

/* moved looks at what recv or send returned: bytes moved, 0 for "try again", or
 * -1 for the end of the call. */
static ssize_t moved(struct client *c, ssize_t n, short events, const struct limit *l)
{
	if (n > 0)
		return n;
	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return wait_ready(c, events, l) ? 0 : -1;
	if (n == 0 || errno == EPIPE || errno == ECONNRESET)
		fail(c, FAILED_GONE, n == 0 ? 0 : errno);
	else
		fail(c, FAILED_IO, errno);
	return -1;
}

static bool read_bytes(struct client *c, size_t end, const struct limit *l)
{
	while (c->buffer.len < end) {
		ssize_t n;

		if (now_ms() >= l->end)
			return limit_passed(c, l);
		n = recv(c->fd, c->buffer.bytes + c->buffer.len, end - c->buffer.len, MSG_DONTWAIT);
		n = moved(c, n, POLLIN, l);
		if (n < 0)
			return false;
		c->buffer.len += (size_t)n;
	}
	return true;
}

static bool write_frame(struct client *c)
{
	struct limit l = limit_begin(c, CLIENT_WRITE_MS, FAILED_WRITE_LIMIT);
	size_t done = 0;

	while (done < c->buffer.len) {
		ssize_t n;

		if (now_ms() >= l.end)
			return limit_passed(c, &l);
		n = send(c->fd, c->buffer.bytes + done, c->buffer.len - done, MSG_DONTWAIT | MSG_NOSIGNAL);
		n = moved(c, n, POLLOUT, &l);
		if (n < 0)
			return false;
		done += (size_t)n;
	}
	explicit_bzero(&c->buffer, sizeof c->buffer); /* an answer or a passcode was in it */
	return limit_end(c, &l);
}

/* read_frame reads one frame, whole and in time: what comes after its deadline is void. */
static bool read_frame(struct client *c, const struct limit *l, struct frame *f)
{
	ssize_t len;

	c->buffer.len = 0;
	if (!read_bytes(c, FRAME_HEADER_SIZE, l))
		return false;
	len = frame_header(c->buffer.bytes);
	if (len < 0)
		return fail(c, FAILED_BROKEN, 0);
	if (!read_bytes(c, FRAME_HEADER_SIZE + (size_t)len, l) || !limit_end(c, l))
		return false;
	return frame_parse(&c->buffer, f) || fail(c, FAILED_BROKEN, 0);
}

static bool open_socket(struct client *c)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	c->fd = fd;
	if (fd < 0)
		return fail(c, FAILED_RESOURCES, errno);
	if (fd > STDERR_FILENO)
		return true;
	/* A host without standard descriptors would write its output to the daemon. */
	c->fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (c->fd < 0)
		fail(c, FAILED_RESOURCES, errno);
	close(fd);
	return c->fd >= 0;
}

static bool connect_once(struct client *c, const struct sockaddr_un *address)
{
	if (connect(c->fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EISCONN)
		return true;
	switch (errno) {
	case EINTR:
	case EAGAIN:
		return fail(c, FAILED_CONNECT_LIMIT, errno); /* to be tried again */
	case ENOENT:
		return fail(c, FAILED_NO_SOCKET, errno);
	case ECONNREFUSED:
		return fail(c, FAILED_REFUSED, errno);
	default:
		return fail(c, FAILED_CONNECT, errno);
	}
}

/* connect_daemon connects; while the queue of the socket is full, it tries again. */
static bool connect_daemon(struct client *c)
{
	struct limit l = limit_begin(c, CLIENT_CONNECT_MS, FAILED_CONNECT_LIMIT);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(c->socket_path);

	if (len >= sizeof address.sun_path)
		return fail(c, FAILED_CONNECT, ENAMETOOLONG);
	memcpy(address.sun_path, c->socket_path, len + 1);
	while (!connect_once(c, &address)) {
		if (c->failure != FAILED_CONNECT_LIMIT)
			return false;
		if (now_ms() >= l.end)
			return limit_passed(c, &l);
		if (c->error == EAGAIN)
			poll(NULL, 0, CONNECT_RETRY_MS);
	}
	fail(c, FAILED_NOT, 0);
	return limit_end(c, &l);
}

static bool check_peer(struct client *c)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof peer;

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return fail(c, FAILED_IO, errno);
	c->peer_uid = peer.uid;
	return (len == sizeof peer && peer.uid == c->server_uid) || fail(c, FAILED_PEER, 0);
}

static bool send_request(struct client *c, const struct frame_request *r)
{
	c->too_large = frame_put_request(&c->buffer, r);
	return c->too_large == NULL ? write_frame(c) : fail(c, FAILED_TOO_LARGE, 0);
}

static bool send_abort(struct client *c, enum frame_reason reason)
{
	c->nobody = true;
	frame_put_abort(&c->buffer, reason);
	return write_frame(c);
}

static bool ask(struct client *c, const struct frame *f)
{
	char answer[FRAME_ANSWER_MAX];
	ssize_t len = CLIENT_ASK_FAILED;

	if (!c->may_ask)
		return fail(c, FAILED_BROKEN, 0);
	frame_clean(f->text);
	if (!c->nobody)
		len = c->conversation.ask(c->conversation.context, f->type == FRAME_ASK, f->text, answer,
					  sizeof answer);
	if (len < 0)
		return send_abort(c, REASON_CONVERSATION);
	frame_put_answer(&c->buffer, answer, (size_t)len);
	explicit_bzero(answer, sizeof answer);
	return write_frame(c);
}

static void show(struct client *c, const struct frame *f)
{
	if (c->nobody)
		return;
	frame_clean(f->text);
	c->conversation.show(c->conversation.context, f->style, f->text);
}

/* too_many_rounds says goodbye; what becomes of that changes nothing. */
static bool too_many_rounds(struct client *c)
{
	send_abort(c, REASON_ROUNDS);
	return fail(c, FAILED_ROUNDS, 0);
}

/* converse does what the daemon says until it decides. */
static bool converse(struct client *c, enum frame_outcome *outcome)
{
	struct limit l = limit_begin(c, CLIENT_READ_MS, FAILED_READ_LIMIT);
	struct frame f;

	while (read_frame(c, &l, &f)) {
		if (f.type == FRAME_DONE) {
			*outcome = f.outcome;
			return true;
		}
		if (++c->rounds > FRAME_ROUNDS_MAX)
			return too_many_rounds(c);
		if (f.type == FRAME_SHOW)
			show(c, &f);
		else if (f.type != FRAME_WAIT && !ask(c, &f))
			return false;
		if (f.type == FRAME_WAIT)
			l = limit_begin(c, f.millis, FAILED_WAIT_LIMIT);
		else
			l = limit_begin(c, CLIENT_READ_MS, FAILED_READ_LIMIT);
	}
	return false;
}

enum frame_outcome client_call(struct client *c, const struct frame_request *r)
{
	enum frame_outcome outcome = OUTCOME_NONE;

	c->failure = FAILED_NOT;
	c->error = 0;
	c->peer_uid = (uid_t)-1;
	c->limit_ms = c->waited_ms = 0;
	c->waiting_since = INT64_MAX;
	c->rounds = 0;
	c->nobody = false;
	if (!(open_socket(c) && connect_daemon(c) && check_peer(c) && send_request(c, r) &&
	      converse(c, &outcome)))
		outcome = OUTCOME_NONE;
	book(c); /* what a failure has cut short */
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	explicit_bzero(&c->buffer, sizeof c->buffer);
	return outcome;
}

#define FAILURE_NAME(value, name) [value] = name,

const char *client_failure_name(enum client_failure f)
{
	static const char *const names[] = { CLIENT_FAILURES(FAILURE_NAME) };

	return (size_t)f < sizeof names / sizeof *names ? names[f] : "unknown";
}
