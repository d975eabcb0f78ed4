/* SPDX-License-Identifier: Apache-2.0 */

//go:build pam_module

/* pam_sallyport: the functions that libpam calls. Each reads its arguments, makes
 * one call to authd and maps the decision, or the lack of one, to a PAM code. The
 * codes are documented, and tested, in docs/reference/pam-module.md.
 */

#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <security/pam_modules.h>
#include <security/pam_ext.h>

#ifndef SALLYPORT_VERSION
#define SALLYPORT_VERSION "unknown"
#endif
#ifndef SALLYPORT_SERVER_UID
#define SALLYPORT_SERVER_UID 0
#endif

#define EXPORT __attribute__((visibility("default")))
#define DEFAULT_DIR "/run/sallyport"
#define DEFAULT_TIMEOUT_S 90
#define MAX_TIMEOUT_S 3600
#define CLOSE_SESSION_MS 2000

/* What a call came to, beside the outcomes of the daemon. */
enum verdict { NO_DECISION = 100, TOO_LARGE, NO_USER, BAD_ARGUMENT };

struct options {
	char socket_path[108], breakglass_path[108]; /* as much as a socket's address holds */
	int timeout_s;
	bool allow_unreachable;
	bool debug;
};

struct asker {
	pam_handle_t *pamh;
	bool silent;
};

static bool set_path(char *path, size_t size, const char *dir, const char *name)
{
	int len = snprintf(path, size, "%s/%s", dir, name);

	return dir[0] == '/' && len > 0 && (size_t)len < size;
}

static bool set_sockets(struct options *o, const char *dir)
{
	return set_path(o->socket_path, sizeof o->socket_path, dir, geteuid() == 0 ? "authd.sock" : "user.sock") &&
	       set_path(o->breakglass_path, sizeof o->breakglass_path, dir, "breakglass.sock");
}

static bool set_timeout(struct options *o, const char *s)
{
	o->timeout_s = 0;
	for (; *s >= '0' && *s <= '9' && o->timeout_s <= MAX_TIMEOUT_S; s++)
		o->timeout_s = o->timeout_s * 10 + (*s - '0');
	return *s == 0 && o->timeout_s >= 1 && o->timeout_s <= MAX_TIMEOUT_S;
}

static bool set_option(struct options *o, const char *arg)
{
	if (strncmp(arg, "socket_dir=", 11) == 0)
		return set_sockets(o, arg + 11);
	if (strncmp(arg, "timeout=", 8) == 0)
		return set_timeout(o, arg + 8);
	if (strcmp(arg, "debug") == 0)
		o->debug = true;
	else if (strcmp(arg, "unreachable=allow") == 0)
		o->allow_unreachable = true;
	else if (strcmp(arg, "unreachable=deny") == 0)
		o->allow_unreachable = false;
	else
		return false;
	return true;
}

static const void *item(const pam_handle_t *pamh, int type)
{
	const void *value = NULL;

	return pam_get_item(pamh, type, &value) == PAM_SUCCESS ? value : NULL;
}

/* converse puts one message to the host's conversation function: its answer, which
 * is the caller's to wipe and free, or NULL. */
static char *converse(pam_handle_t *pamh, int style, const char *text)
{
	const struct pam_message message = { style, text }, *messages = &message;
	struct pam_response *responses = NULL;
	const struct pam_conv *conv = item(pamh, PAM_CONV);
	char *answer;

	if (conv == NULL || conv->conv == NULL)
		return NULL;
	if (conv->conv(1, &messages, &responses, conv->appdata_ptr) != PAM_SUCCESS || responses == NULL)
		return NULL;
	answer = responses->resp;
	free(responses);
	return answer;
}

static void wipe(char *s)
{
	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

static void show(void *context, enum frame_style style, const char *text)
{
	const struct asker *a = context;

	if (!a->silent)
		wipe(converse(a->pamh, style == STYLE_ERROR ? PAM_ERROR_MSG : PAM_TEXT_INFO, text));
}

static ssize_t ask(void *context, bool echo, const char *text, char *answer, size_t size)
{
	const struct asker *a = context;
	char *typed = converse(a->pamh, echo ? PAM_PROMPT_ECHO_ON : PAM_PROMPT_ECHO_OFF, text);
	size_t len;

	if (typed == NULL)
		return CLIENT_ASK_FAILED;
	len = strlen(typed);
	if (len <= size)
		memcpy(answer, typed, len);
	wipe(typed);
	return (ssize_t)len;
}

/* passcode reads a variable that the user may have set. One that is too long is
 * left out, and the user asked instead. */
static const char *passcode(pam_handle_t *pamh, const char *name)
{
	const char *value = getenv(name);

	if (value == NULL || strnlen(value, FRAME_ANSWER_MAX + 1) <= FRAME_ANSWER_MAX)
		return value;
	pam_syslog(pamh, LOG_WARNING, "%s ignored: it has more than %d bytes", name, FRAME_ANSWER_MAX);
	return NULL;
}

/* sudo_command is SUDO_COMMAND as sudo made it for this run: sudo answers getenv in
 * its own process from the environment that it has built for the command. Anywhere
 * else, and before sudo has built it, the value is one that the user has set, and
 * stands in environ itself. One that is too long is not sent, so that authd does
 * not know the command, and a rule about commands holds. */
static const char *sudo_command(void)
{
	static const char name[] = "SUDO_COMMAND=";
	const size_t len = sizeof name - 1;
	const char *value = getenv("SUDO_COMMAND");

	if (value == NULL || strnlen(value, FRAME_COMMAND_MAX + 1) > FRAME_COMMAND_MAX)
		return NULL;
	for (char **e = environ; e != NULL && *e != NULL; e++)
		if (strncmp(*e, name, len) == 0 && *e + len == value)
			return NULL;
	return value;
}

/* request gathers what the daemon is told. Its strings are libpam's, which the
 * conversation may replace: they hold until the first message or question. */
static struct frame_request request(pam_handle_t *pamh, enum frame_hook hook, int flags)
{
	struct frame_request r = { .hook = hook, .flags = (uint32_t)flags, .version = SALLYPORT_VERSION };
	bool login = hook == HOOK_AUTHENTICATE;

	if (login && pam_get_user(pamh, &r.user, NULL) != PAM_SUCCESS) { /* may ask for the name */
		r.user = NULL;
		return r;
	}
	r.ruid = getuid();
	r.euid = geteuid();
	r.service = item(pamh, PAM_SERVICE);
	r.user = item(pamh, PAM_USER);
	r.tty = item(pamh, PAM_TTY);
	r.rhost = item(pamh, PAM_RHOST);
	r.ruser = item(pamh, PAM_RUSER);
	r.env[0] = (struct frame_env){ TAG_PAM_ENV, "SSH_AUTH_INFO_0", pam_getenv(pamh, "SSH_AUTH_INFO_0") };
	r.env[1] = (struct frame_env){ TAG_PAM_ENV, "SSH_CONNECTION", pam_getenv(pamh, "SSH_CONNECTION") };
	if (login || hook == HOOK_ACCT_MGMT) /* later, sudo mixes in what the user gave it */
		r.env[4] = (struct frame_env){ TAG_PROC_ENV, "SUDO_COMMAND", sudo_command() };
	if (!login)
		return r;
	r.env[2] = (struct frame_env){ TAG_PROC_ENV, "SALLYPORT_PASSCODE", passcode(pamh, "SALLYPORT_PASSCODE") };
	r.env[3] = (struct frame_env){ TAG_PROC_ENV, "DUO_PASSCODE", passcode(pamh, "DUO_PASSCODE") };
	return r;
}

/* report logs what became of a call. The user's name, which anyone may choose, is
 * made fit for a line of the log. */
static void report(pam_handle_t *pamh, int priority, const char *what, const struct client *c)
{
	char error[64] = "-", user[FRAME_NAME_MAX + 1];
	const char *name = item(pamh, PAM_USER);

	snprintf(user, sizeof user, "%s", name == NULL ? "-" : name);
	frame_clean(user);
	for (char *p = user; *p != 0; p++)
		if (*p == '\n' || *p == '\t' || *p == ' ')
			*p = '?';
	pam_syslog(pamh, priority,
		   "%s: user=%s reason=%s socket=%s errno=%d (%s) limit_ms=%lld waited_ms=%lld timeout_ms=%lld "
		   "rounds=%u peer_uid=%d too_large=%s",
		   what, user, client_failure_name(c->failure), c->socket_path, c->error,
		   c->error == 0 ? error : strerror_r(c->error, error, sizeof error), (long long)c->limit_ms,
		   (long long)c->waited_ms, (long long)c->timeout_ms, c->rounds, (int)c->peer_uid,
		   c->too_large == NULL ? "-" : c->too_large);
}

/* authd_away says that the fault was authd's. What the process itself lacks, memory
 * or a shorter name, it would lack at another socket too, and after timeout= there is
 * no time to ask. */
static bool authd_away(const struct client *c)
{
	switch (c->failure) {
	case FAILED_NO_SOCKET:
	case FAILED_REFUSED:
	case FAILED_CONNECT:
	case FAILED_CONNECT_LIMIT:
	case FAILED_PEER:
	case FAILED_GONE:
	case FAILED_WRITE_LIMIT:
	case FAILED_READ_LIMIT:
	case FAILED_WAIT_LIMIT:
	case FAILED_BROKEN:
	case FAILED_ROUNDS:
		return true;
	default:
		return false;
	}
}

/* break_glass asks sallyport-breakglass in place of authd, in what is left of timeout=:
 * its decision, or OUTCOME_NONE where it is not there or has no code for this login. The
 * request is made anew, as a conversation may have replaced its strings. */
static enum frame_outcome break_glass(pam_handle_t *pamh, const struct options *o, const struct client *authd,
				      enum frame_hook hook, int flags)
{
	struct frame_request r = request(pamh, hook, flags);
	struct client c = {
		.socket_path = o->breakglass_path,
		.server_uid = authd->server_uid,
		.timeout_ms = authd->timeout_ms - authd->waited_ms,
		.may_ask = authd->may_ask,
		.conversation = authd->conversation,
	};
	enum frame_outcome outcome;

	if (r.user == NULL || r.user[0] == 0)
		return OUTCOME_NONE;
	r.env[2].value = r.env[3].value = NULL; /* passcodes are none of its business */
	outcome = client_call(&c, &r);
	if (outcome == OUTCOME_UNAVAILABLE)
		return OUTCOME_NONE;
	if (outcome != OUTCOME_NONE)
		pam_syslog(pamh, LOG_WARNING, "sallyport-breakglass decided %u in place of authd", outcome);
	else if (c.failure != FAILED_NO_SOCKET)
		report(pamh, LOG_ERR, "no decision from sallyport-breakglass", &c);
	return outcome;
}

/* judge_failure is the one place where a missing decision can become "allow". */
static int judge_failure(pam_handle_t *pamh, const struct options *o, const struct client *c, enum frame_hook hook, int flags)
{
	bool unreachable = c->failure == FAILED_NO_SOCKET || c->failure == FAILED_REFUSED;
	enum frame_outcome outcome = OUTCOME_NONE;

	if (unreachable && o->allow_unreachable) {
		report(pamh, LOG_WARNING, "let in without asking authd, by unreachable=allow", c);
		return OUTCOME_ALLOW;
	}
	report(pamh, LOG_ERR, "no decision from authd", c);
	if (hook != HOOK_CLOSE_SESSION && geteuid() == SALLYPORT_SERVER_UID && authd_away(c))
		outcome = break_glass(pamh, o, c, hook, flags);
	if (outcome != OUTCOME_NONE)
		return (int)outcome;
	return c->failure == FAILED_TOO_LARGE ? TOO_LARGE : NO_DECISION;
}

static int call(pam_handle_t *pamh, enum frame_hook hook, int flags, int argc, const char **argv)
{
	struct options o = { .timeout_s = DEFAULT_TIMEOUT_S };
	struct asker asker = { pamh, (flags & (int)PAM_SILENT) != 0 };
	struct client c = {
		.server_uid = SALLYPORT_SERVER_UID,
		.may_ask = hook == HOOK_AUTHENTICATE,
		.conversation = { &asker, show, ask },
	};
	struct frame_request r;
	enum frame_outcome outcome;

	set_sockets(&o, DEFAULT_DIR);
	for (int i = 0; i < argc; i++) {
		if (!set_option(&o, argv[i])) {
			pam_syslog(pamh, LOG_ERR, "bad module argument %.100s", argv[i]);
			return BAD_ARGUMENT;
		}
	}
	r = request(pamh, hook, flags);
	if (r.user == NULL || r.user[0] == 0) {
		pam_syslog(pamh, LOG_ERR, "refused: no user name");
		return NO_USER;
	}
	c.socket_path = o.socket_path;
	c.timeout_ms = hook == HOOK_CLOSE_SESSION ? CLOSE_SESSION_MS : o.timeout_s * INT64_C(1000);
	outcome = client_call(&c, &r);
	if (outcome == OUTCOME_NONE)
		return judge_failure(pamh, &o, &c, hook, flags);
	if (o.debug)
		pam_syslog(pamh, LOG_DEBUG, "authd at %s decided %u after %lld ms and %u rounds",
			   o.socket_path, outcome, (long long)c.waited_ms, c.rounds);
	return (int)outcome;
}

EXPORT int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	switch (call(pamh, HOOK_AUTHENTICATE, flags, argc, argv)) {
	case OUTCOME_ALLOW:
		return PAM_SUCCESS;
	case OUTCOME_DENY:
	case TOO_LARGE:
		return PAM_AUTH_ERR;
	case OUTCOME_MAX_TRIES:
		return PAM_MAXTRIES;
	case OUTCOME_USER_UNKNOWN:
	case NO_USER:
		return PAM_USER_UNKNOWN;
	case OUTCOME_ABORTED:
		return PAM_CONV_ERR;
	case BAD_ARGUMENT:
		return PAM_SERVICE_ERR;
	default:
		return PAM_AUTHINFO_UNAVAIL;
	}
}

EXPORT int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	switch (call(pamh, HOOK_ACCT_MGMT, flags, argc, argv)) {
	case OUTCOME_ALLOW:
		return PAM_SUCCESS;
	case OUTCOME_USER_UNKNOWN:
	case NO_USER:
		return PAM_USER_UNKNOWN;
	default:
		return PAM_PERM_DENIED;
	}
}

EXPORT int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	return call(pamh, HOOK_OPEN_SESSION, flags, argc, argv) == OUTCOME_ALLOW ? PAM_SUCCESS :
										    PAM_SESSION_ERR;
}

/* A session that cannot be reported must end all the same. */
EXPORT int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	call(pamh, HOOK_CLOSE_SESSION, flags, argc, argv);
	return PAM_SUCCESS;
}

/* There are no credentials to set. Who may log in, authenticate and acct_mgmt have said. */
EXPORT int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_SUCCESS;
}

EXPORT int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags, (void)argc, (void)argv;
	pam_syslog(pamh, LOG_ERR, "refused: pam_sallyport changes no passwords, remove it from the password stack");
	return PAM_SERVICE_ERR;
}
