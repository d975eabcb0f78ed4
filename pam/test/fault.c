/* SPDX-License-Identifier: Apache-2.0
 *
 * The module, every system call of which fails in turn, alone and in pairs, and its
 * deadlines to the millisecond. The promise that is checked: whatever happens, allow
 * comes from authd's DONE alone (or from unreachable=allow and the two errors of
 * connect that it names), and every call ends in its time with nothing left behind.
 */

#include "fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <security/pam_modules.h>

#include "../client.h"

static const char passcode[] = "Xk93-pass-4417";
static const char answer[] = "Qz81-answer-905";

/* Frames of the daemon. */
#define H(type, len) 'S', 'P', 1, type, 0, 0, 0, len
static const uint8_t allow[] = { H(20, 4), 19, 0, 1, 1 };
static const uint8_t deny[] = { H(20, 4), 19, 0, 1, 2 };
static const uint8_t unavailable[] = { H(20, 4), 19, 0, 1, 5 };
static const uint8_t show[] = { H(16, 9), 16, 0, 2, 'h', 'i', 17, 0, 1, 1 };
static const uint8_t ask_text[] = { H(17, 5), 16, 0, 2, '?', ' ' };
static const uint8_t ask_secret[] = { H(18, 5), 16, 0, 2, '?', ' ' };
static const uint8_t wait_30s[] = { H(19, 7), 18, 0, 4, 0, 0, 0x75, 0x30 };
static const uint8_t wait_10min[] = { H(19, 7), 18, 0, 4, 0, 9, 0x27, 0xc0 };

struct scenario {
	const char *name;
	int hook;
	int code; /* without faults */
	const char *args[3];
	void (*prepare)(void);
};

static void fresh(void)
{
	free(world.typed);
	memset(&world, 0, sizeof world);
	world.first_fd = 5;
	world.breakglass.connect_error = ENOENT;
	world.user = "alice";
	world.service = "sshd";
	world.answer = answer;
	world.passcode = passcode;
}

static void arrives(int64_t at_ms, const uint8_t *bytes, size_t len)
{
	CHECK(world.authd.segment_count < FAKE_SEGMENTS, "too many segments");
	world.authd.segments[world.authd.segment_count++] = (struct segment){ at_ms, len, bytes };
}

static void glass(int64_t at_ms, const uint8_t *bytes, size_t len)
{
	struct side *b = &world.breakglass;

	CHECK(b->segment_count < FAKE_SEGMENTS, "too many segments");
	b->connect_error = 0;
	b->segments[b->segment_count++] = (struct segment){ at_ms, len, bytes };
}
#define GLASS(at_ms, frame) glass(at_ms, frame, sizeof frame)
#define SAYS(at_ms, frame) arrives(at_ms, frame, sizeof frame)
#define CLOSES(at_ms) arrives(at_ms, NULL, 0)

static void says_allow(void) { SAYS(0, allow); }
static void says_deny(void) { SAYS(5, deny); }
static void no_daemon(void) { world.authd.connect_error = ENOENT; }
static void refused(void) { world.authd.connect_error = ECONNREFUSED; }
static void no_access(void) { world.authd.connect_error = EACCES; }
static void wrong_owner(void) { world.authd.peer_uid = 1000; SAYS(0, allow); }

static void low_descriptor(void)
{
	world.first_fd = 0;
	SAYS(0, allow);
}

static void busy(void)
{
	world.authd.queue_full = 5;
	SAYS(100, allow);
}

static void login(void)
{
	SAYS(1, show);
	SAYS(2, ask_secret);
	SAYS(3, wait_30s);
	SAYS(20000, show);
	SAYS(20001, ask_text);
	SAYS(25000, allow);
}

static void login_in_drips(void)
{
	login();
	world.recv_max = world.send_max = 3;
	world.auth_info = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI";
	world.rhost = "192.0.2.7";
}

static void nobody(void)
{
	world.answer = NULL;
	SAYS(1, show);
	SAYS(2, ask_text);
	SAYS(3, deny);
}

static void nobody_yet_allowed(void)
{
	world.no_conversation = true;
	SAYS(1, show);
	SAYS(2, ask_text);
	SAYS(3, ask_secret);
	SAYS(4, allow);
}

static void closes_at_once(void) { CLOSES(0); }

static void closes_later(void)
{
	SAYS(0, ask_text);
	CLOSES(3);
}

static void hangs(void)
{
	SAYS(0, wait_10min);
}

/* authd is away, and break-glass answers. */
static void glass_allows(void)
{
	world.authd.connect_error = ENOENT;
	GLASS(1, ask_text);
	GLASS(2, wait_30s);
	GLASS(20000, show);
	GLASS(20001, allow);
}

static void glass_allows_later(void)
{
	SAYS(1, ask_secret);
	CLOSES(2);
	GLASS(3, ask_text);
	GLASS(4, allow);
}

static void glass_denies(void)
{
	world.authd.connect_error = ECONNREFUSED;
	GLASS(1, ask_text);
	GLASS(4, deny);
}

static void glass_has_no_code(void)
{
	world.authd.connect_error = ENOENT;
	GLASS(1, unavailable);
}

static void glass_is_foreign(void)
{
	world.authd.connect_error = ENOENT;
	world.breakglass.peer_uid = 1000;
	GLASS(1, allow);
}

static void glass_instead_of_a_stranger(void)
{
	wrong_owner();
	GLASS(1, allow);
}

static void glass_is_not_asked(void)
{
	says_deny();
	GLASS(0, allow);
}

static void glass_remembers(void)
{
	world.authd.connect_error = ENOENT;
	GLASS(1, allow);
}

static void glass_hangs(void)
{
	world.authd.connect_error = ENOENT;
	GLASS(0, wait_10min);
}

static const struct scenario scenarios[] = {
	{ "allow", HOOK_AUTHENTICATE, PAM_SUCCESS, { "debug" }, says_allow },
	{ "deny", HOOK_AUTHENTICATE, PAM_AUTH_ERR, { 0 }, says_deny },
	{ "deny, unreachable=allow", HOOK_AUTHENTICATE, PAM_AUTH_ERR, { "unreachable=allow" }, says_deny },
	{ "allow on descriptor 0", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, low_descriptor },
	{ "busy", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, busy },
	{ "login", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, login },
	{ "login in drips", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, login_in_drips },
	{ "nobody", HOOK_AUTHENTICATE, PAM_AUTH_ERR, { 0 }, nobody },
	{ "nobody, allowed", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, nobody_yet_allowed },
	{ "closes at once", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { "unreachable=allow" }, closes_at_once },
	{ "closes later", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { "unreachable=allow" }, closes_later },
	{ "hangs", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { "unreachable=allow", "timeout=7" }, hangs },
	{ "no daemon", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { 0 }, no_daemon },
	{ "no daemon, unreachable=allow", HOOK_AUTHENTICATE, PAM_SUCCESS, { "unreachable=allow" }, no_daemon },
	{ "refused, unreachable=allow", HOOK_AUTHENTICATE, PAM_SUCCESS, { "unreachable=allow" }, refused },
	{ "no access, unreachable=allow", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { "unreachable=allow" }, no_access },
	{ "wrong owner, unreachable=allow", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { "unreachable=allow" }, wrong_owner },
	{ "bad argument", HOOK_AUTHENTICATE, PAM_SERVICE_ERR, { "allow" }, says_allow },
	{ "account", HOOK_ACCT_MGMT, PAM_SUCCESS, { 0 }, says_allow },
	{ "account denied", HOOK_ACCT_MGMT, PAM_PERM_DENIED, { "unreachable=allow" }, says_deny },
	{ "account asked", HOOK_ACCT_MGMT, PAM_PERM_DENIED, { 0 }, login },
	{ "session", HOOK_OPEN_SESSION, PAM_SUCCESS, { 0 }, says_allow },
	{ "session denied", HOOK_OPEN_SESSION, PAM_SESSION_ERR, { "unreachable=allow" }, says_deny },
	{ "break-glass", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, glass_allows },
	{ "break-glass after a question", HOOK_AUTHENTICATE, PAM_SUCCESS, { "unreachable=allow" }, glass_allows_later },
	{ "break-glass denies", HOOK_AUTHENTICATE, PAM_AUTH_ERR, { 0 }, glass_denies },
	{ "break-glass, unreachable=allow", HOOK_AUTHENTICATE, PAM_SUCCESS, { "unreachable=allow" }, glass_denies },
	{ "break-glass has no code", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { 0 }, glass_has_no_code },
	{ "break-glass of another uid", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { 0 }, glass_is_foreign },
	{ "break-glass, authd of another uid", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, glass_instead_of_a_stranger },
	{ "break-glass after a deny", HOOK_AUTHENTICATE, PAM_AUTH_ERR, { 0 }, glass_is_not_asked },
	{ "break-glass hangs", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, { 0 }, glass_hangs },
	{ "break-glass, account", HOOK_ACCT_MGMT, PAM_SUCCESS, { 0 }, glass_remembers },
	{ "break-glass, account asked", HOOK_ACCT_MGMT, PAM_PERM_DENIED, { 0 }, glass_allows },
	{ "break-glass, session", HOOK_OPEN_SESSION, PAM_SUCCESS, { 0 }, glass_remembers },
	{ "break-glass, end of session", HOOK_CLOSE_SESSION, PAM_SUCCESS, { 0 }, glass_remembers },
	{ "end of session", HOOK_CLOSE_SESSION, PAM_SUCCESS, { 0 }, hangs },
};

static const int errors[] = { EINTR, EAGAIN, EMFILE, ENFILE, ENOMEM, ENOBUFS, EPIPE, ECONNRESET, EIO, EBADF,
			      EINVAL, ENOENT, ECONNREFUSED, EACCES, EPERM };

static const struct scenario *current;

static int run(const struct scenario *s)
{
	int argc = 0;

	current = s;
	while (argc < 3 && s->args[argc] != NULL)
		argc++;
	return call_hook(s->hook, 0, argc, (const char **)s->args);
}

static bool may_return(int hook, int code)
{
	switch (hook) {
	case HOOK_AUTHENTICATE:
		return code == PAM_SUCCESS || code == PAM_AUTH_ERR || code == PAM_MAXTRIES || code == PAM_USER_UNKNOWN ||
		       code == PAM_CONV_ERR || code == PAM_SERVICE_ERR || code == PAM_AUTHINFO_UNAVAIL;
	case HOOK_ACCT_MGMT:
		return code == PAM_SUCCESS || code == PAM_PERM_DENIED || code == PAM_USER_UNKNOWN;
	case HOOK_OPEN_SESSION:
		return code == PAM_SUCCESS || code == PAM_SESSION_ERR;
	default:
		return code == PAM_SUCCESS;
	}
}

static size_t length(const struct side *from)
{
	size_t all = 0;

	for (unsigned i = 0; i < from->segment_count; i++)
		all += from->segments[i].len;
	return all;
}

/* decided says whether DONE has been read to its last byte, and whether it was "allow". */
static bool decided(const struct side *from, bool *allow)
{
	static const uint8_t outcome[] = { 19, 0, 1 };
	const struct segment *last = NULL;

	for (unsigned i = 0; i < from->segment_count; i++)
		if (from->segments[i].len > 0)
			last = &from->segments[i];
	*allow = false;
	if (last == NULL || last->len != 12 || memcmp(last->bytes + 8, outcome, sizeof outcome) != 0 || from->received != length(from))
		return false;
	*allow = last->bytes[11] == OUTCOME_ALLOW;
	return true;
}

/* allowed says whether something in this world has allowed the login: authd, and only
 * where it has decided nothing, break-glass. */
static bool allowed(const struct scenario *s)
{
	bool allow;

	if (s->hook == HOOK_CLOSE_SESSION)
		return true;
	if (s->args[0] != NULL && strcmp(s->args[0], "unreachable=allow") == 0 &&
	    (world.authd.last_connect_error == ENOENT || world.authd.last_connect_error == ECONNREFUSED))
		return true;
	/* Without a clock, what authd said may have come too late, and is void. */
	if (decided(&world.authd, &allow) && (allow || !world.final_fault))
		return allow;
	return decided(&world.breakglass, &allow) && allow;
}

static void check(const struct scenario *s, int code)
{
	int64_t most = s->hook == HOOK_CLOSE_SESSION ? 2000 : 90000;

	CHECK(may_return(s->hook, code), "%s: code %d", s->name, code);
	CHECK(code != PAM_SUCCESS || allowed(s), "%s: let in, and nobody allowed it", s->name);
	CHECK(s->hook != HOOK_CLOSE_SESSION || !world.breakglass.asked_to_connect, "%s: break-glass asked at the end of a session", s->name);
	CHECK(world.waited_ms <= most, "%s: waited for %lld ms", s->name, (long long)world.waited_ms);
	world_ends();
	CHECK(!stack_holds(answer), "%s: an answer is left on the stack", s->name);
	CHECK(!stack_holds(passcode), "%s: a passcode is left on the stack", s->name);
}

/* How many system calls the scenario makes when none fails. */
static unsigned baseline(const struct scenario *s)
{
	int code;

	fresh();
	s->prepare();
	code = run(s);
	CHECK(code == s->code, "%s: code %d, want %d", s->name, code, s->code);
	check(s, code);
	return world.calls;
}

static void one_fault(const struct scenario *s, unsigned at, int error)
{
	int code;

	fresh();
	s->prepare();
	world.faults[0] = (struct fault){ .at = at, .error = error };
	code = run(s);
	check(s, code);
	/* An interrupted call is no failure. */
	if (error == EINTR && !world.final_fault)
		CHECK(code == s->code, "%s: EINTR at call %u gives %d", s->name, at, code);
}

static unsigned long runs;

static void every_fault(const struct scenario *s)
{
	unsigned calls = baseline(s);
	size_t n = sizeof errors / sizeof *errors;

	for (unsigned at = 1; at <= calls; at++) {
		for (size_t e = 0; e < n; e++, runs++)
			one_fault(s, at, errors[e]);
		/* From here on everything fails in this way. */
		for (size_t e = 0; e < n; e++, runs++) {
			fresh();
			s->prepare();
			world.tick_ms = 1;
			world.faults[0] = (struct fault){ .at = at, .error = errors[e], .forever = true };
			check(s, run(s));
		}
	}
	for (unsigned at = 1; at <= calls; at++) {
		for (unsigned then = at + 1; then <= calls + 2; then++, runs++) {
			fresh();
			s->prepare();
			world.faults[0] = (struct fault){ .at = at, .error = errors[(at + then) % 4] };
			world.faults[1] = (struct fault){ .at = then, .error = errors[(at * 7 + then) % n] };
			check(s, run(s));
		}
	}
}

static void every_fault_of_libpam(const struct scenario *s)
{
	unsigned calls;

	baseline(s);
	calls = world.pam_calls;
	for (unsigned at = 1; at <= calls; at++, runs++) {
		fresh();
		s->prepare();
		world.pam_fault = (int)at;
		check(s, run(s));
	}
}

/* cut_off makes the daemon die after so many bytes. */
static void cut_off(struct side *from, size_t cut)
{
	unsigned i = 0;

	for (; cut >= from->segments[i].len; i++)
		cut -= from->segments[i].len;
	from->segments[i].len = cut;
	from->segment_count = i + (cut > 0 ? 1 : 0);
	from->segments[from->segment_count++] = (struct segment){ i > 0 ? from->segments[i - 1].at_ms : 0, 0, NULL };
}

/* The daemon dies at each byte that it sends. */
static void every_cut(const struct scenario *s, struct side *from)
{
	bool unreachable = s->args[0] != NULL && strcmp(s->args[0], "unreachable=allow") == 0;
	size_t all;

	fresh();
	s->prepare();
	all = length(from);
	for (size_t cut = 0; cut < all; cut++, runs++) {
		bool allow;
		int code;

		fresh();
		s->prepare();
		cut_off(from, cut);
		code = run(s);
		check(s, code);
		CHECK(code != PAM_SUCCESS || s->hook == HOOK_CLOSE_SESSION ||
			      (from == &world.authd && decided(&world.breakglass, &allow) && allow) ||
			      (from == &world.breakglass && (unreachable || (decided(&world.authd, &allow) && allow))),
		      "%s: let in by %zu of %zu bytes", s->name, cut, all);
		CHECK(world.waited_ms <= 50000, "%s: waited for a daemon that was gone", s->name);
	}
}

static void expect(const char *what, int hook, int want, const char *reason, const char *arg)
{
	const struct scenario s = { what, hook, want, { arg }, NULL };
	int code = run(&s);

	world_ends();
	CHECK(code == want, "%s: code %d, want %d", what, code, want);
	CHECK(reason == NULL || strstr(world.log, reason) != NULL, "%s: the log does not say %s", what, reason);
	runs++;
}

/* Each limit at its last good millisecond and at its first bad one. */
static void deadlines(void)
{
	static const uint8_t half_allow[] = { 'S', 'P', 1, 20, 0, 0 }, rest[] = { 0, 4, 19, 0, 1, 1 };

	fresh(), SAYS(9999, allow);
	expect("answer in 9999 ms", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh(), SAYS(10000, allow);
	expect("answer in 10 s", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=read-limit", NULL);
	fresh(), SAYS(6000, half_allow), SAYS(9999, rest);
	expect("a frame in two parts", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh(), SAYS(6000, half_allow), SAYS(10000, rest);
	expect("dripping bytes", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=read-limit", NULL);
	fresh(), SAYS(9000, show), SAYS(18999, allow);
	expect("each frame has its limit", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh(), SAYS(9000, wait_30s), SAYS(38999, allow);
	expect("WAIT counts from its arrival", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh(), SAYS(9000, wait_30s), SAYS(39000, allow);
	expect("WAIT is over", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=wait-limit", NULL);
	fresh(), SAYS(0, wait_30s), SAYS(1, show), SAYS(10001, allow);
	expect("WAIT is for one frame", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=read-limit", NULL);
	fresh(), SAYS(0, wait_10min), SAYS(89999, allow);
	expect("just within timeout=", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh(), SAYS(0, wait_10min), SAYS(90000, allow);
	expect("timeout= is over", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=timeout", NULL);
	fresh(), SAYS(0, wait_10min), SAYS(300000, allow);
	expect("a longer timeout=", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, "timeout=301");
	fresh(), SAYS(4000, wait_10min), SAYS(5000, show), SAYS(6000, allow);
	expect("timeout= counts all waiting", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=timeout", "timeout=6");
	fresh(), SAYS(1000, ask_text), SAYS(600000, show), SAYS(2400000, ask_text), SAYS(3600000, allow);
	world.typing_ms = 1200000;
	expect("typing is not waiting", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, "timeout=5");
	fresh(), world.authd.queue_full = 99, SAYS(0, allow);
	expect("a full queue for 990 ms", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh(), world.authd.queue_full = 101, SAYS(0, allow);
	expect("a full queue for a second", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=connect-limit", "unreachable=allow");
	fresh(), world.never_writable = true;
	expect("a daemon that does not read", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=write-limit", NULL);
	CHECK(world.waited_ms == 5000, "waited for %lld ms to write", (long long)world.waited_ms);
	fresh();
	expect("end of a session without a daemon that answers", HOOK_CLOSE_SESSION, PAM_SUCCESS, "reason=timeout", NULL);
	CHECK(world.waited_ms == 2000, "waited for %lld ms at the end of a session", (long long)world.waited_ms);
}

/* What authd has waited away is gone for break-glass. */
static void deadlines_of_break_glass(void)
{
	fresh(), GLASS(10000, wait_10min), GLASS(19999, allow);
	expect("break-glass in what is left", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, "timeout=20");
	fresh(), GLASS(10000, wait_10min), GLASS(20000, allow);
	expect("break-glass, and nothing is left", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=timeout", "timeout=20");
	fresh(), GLASS(0, allow);
	expect("timeout= is over before", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=timeout", "timeout=9");
	CHECK(!world.breakglass.asked_to_connect, "break-glass asked without time");
	fresh(), GLASS(19999, allow);
	expect("break-glass answers in 9999 ms", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh(), GLASS(20000, allow);
	expect("break-glass answers in 10 s", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "no decision from sallyport-breakglass", NULL);
	fresh(), world.breakglass.connect_error = ECONNREFUSED;
	expect("break-glass refused", HOOK_ACCT_MGMT, PAM_PERM_DENIED, "reason=refused", NULL);
}

/* A host that was stopped while an approval was under way must not act on it later. */
static void late_is_void(void)
{
	fresh(), SAYS(0, allow), world.tick_ms = 2500;
	expect("everything there, but the process was asleep", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, NULL, NULL);
}

static void rounds(void)
{
	fresh();
	for (int i = 0; i < FRAME_ROUNDS_MAX; i++)
		SAYS(0, show);
	SAYS(0, allow);
	expect("64 rounds", HOOK_AUTHENTICATE, PAM_SUCCESS, NULL, NULL);
	fresh();
	for (int i = 0; i <= FRAME_ROUNDS_MAX; i++)
		SAYS(0, show);
	SAYS(0, allow);
	expect("65 rounds", HOOK_AUTHENTICATE, PAM_AUTHINFO_UNAVAIL, "reason=too-many-rounds", NULL);
	CHECK(world.sent_len > 12 && world.sent[world.sent_len - 1] == REASON_ROUNDS && world.sent[world.sent_len - 9] == FRAME_ABORT,
	      "no ABORT for too many rounds");
}

/* Nothing that anyone can set is cut, and none overflows. */
static void sizes(void)
{
	static char big[9000];

	for (size_t len = 1; len < sizeof big - 1; len += len < 600 ? 1 : 97, runs++) {
		const struct scenario s = { "size", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, NULL };

		memset(big, 'x', len);
		big[len] = 0;
		for (int what = 0; what < 6; what++) {
			size_t most = what == 0 || what == 1 || what == 2 ? FRAME_NAME_MAX : 6144 - 16;
			int code;

			fresh(), SAYS(0, allow);
			if (what == 0)
				world.user = big;
			else if (what == 1)
				world.service = big;
			else if (what == 2)
				world.rhost = big;
			else if (what == 3)
				world.auth_info = big;
			else if (what == 4)
				world.passcode = big, most = sizeof big;
			else
				world.answer = big, world.authd.segment_count = 0, SAYS(0, ask_text), SAYS(1, allow), most = sizeof big;
			code = run(&s);
			world_ends();
			CHECK(code == (len <= most ? PAM_SUCCESS : PAM_AUTH_ERR), "size %zu of %d: code %d", len, what, code);
			CHECK(len <= most || world.sent_len == 0, "something was sent of what is too large");
		}
	}
}

/* The whole of a REQUEST has a limit as well, beside those of its parts. */
static void fullness(void)
{
	static const struct scenario s = { "fullness", HOOK_AUTHENTICATE, PAM_SUCCESS, { 0 }, NULL };
	static char auth_info[6001], connection[2401];
	size_t room = 0;

	memset(auth_info, 'a', sizeof auth_info - 1);
	for (size_t len = 2000; len < sizeof connection - 1; len++, runs++) {
		int code;

		memset(connection, 'c', len);
		fresh(), SAYS(0, allow);
		world.auth_info = auth_info;
		world.connection = connection;
		world.passcode = NULL;
		code = run(&s);
		world_ends();
		if (len == 2000)
			room = FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX - world.sent_len + len;
		CHECK(code == (len <= room ? PAM_SUCCESS : PAM_AUTH_ERR), "%zu bytes where %zu have room: code %d", len, room, code);
	}
	CHECK(room > 2000 && room < sizeof connection - 1, "room for %zu", room);
	for (size_t len = room - 40; len <= room; len++, runs++) {
		const size_t variable = 3 + sizeof "SALLYPORT_PASSCODE=1" - 1;
		int code;

		memset(connection, 'c', len);
		connection[len] = 0;
		fresh(), SAYS(0, allow);
		world.auth_info = auth_info;
		world.connection = connection;
		world.passcode = "1";
		code = run(&s);
		world_ends();
		CHECK(code == (len + variable <= room ? PAM_SUCCESS : PAM_AUTH_ERR), "a variable more, behind %zu bytes: code %d", len, code);
	}
}

int main(void)
{
	for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
		every_fault(&scenarios[i]);
		every_fault_of_libpam(&scenarios[i]);
		every_cut(&scenarios[i], &world.authd);
		every_cut(&scenarios[i], &world.breakglass);
	}
	deadlines();
	deadlines_of_break_glass();
	late_is_void();
	rounds();
	sizes();
	fullness();
	printf("fault: %lu calls of the module, all as documented\n", runs);
	return 0;
}
