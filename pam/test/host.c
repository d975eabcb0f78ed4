/* SPDX-License-Identifier: Apache-2.0
 *
 * A PAM host for the tests: it does what its arguments say, one after another, and
 * reports on descriptor 1 as it was at the start. It uses the real libpam with a
 * folder of its own for the stacks, so that nothing of the machine is touched.
 *
 *   host CONFDIR SERVICE STEP...
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <security/pam_appl.h>
#include <security/pam_ext.h>
#include <security/pam_modules.h>

extern char **environ;

static pam_handle_t *pamh;
static int report_fd = -1;
static int flags;
static int result;
static const char *answers[16]; /* "!" fails, "-" gives none */
static int answer_count, answers_used;

static void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void report(const char *format, ...)
{
	char line[8192];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof line - 1, format, args);
	va_end(args);
	if (len < 0)
		abort();
	if ((size_t)len > sizeof line - 2)
		len = sizeof line - 2;
	for (int i = 0; i < len; i++)
		if (line[i] == '\n')
			line[i] = '|';
	line[len++] = '\n';
	if (write(report_fd, line, (size_t)len) != len)
		abort();
}

/* The module's log comes here: symbols of the program win over those of libpam. */
__attribute__((visibility("default"))) void pam_syslog(const pam_handle_t *handle, int priority, const char *format, ...)
{
	char text[4096];
	va_list args;

	(void)handle;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	report("log %d %s", priority, text);
}

static int conversation(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	struct pam_response *list = calloc((size_t)count, sizeof *list);

	(void)data;
	if (list == NULL)
		return PAM_BUF_ERR;
	for (int i = 0; i < count; i++) {
		int style = messages[i]->msg_style;
		const char *answer = NULL;

		report("conv %d %s", style, messages[i]->msg);
		if (style == PAM_PROMPT_ECHO_ON || style == PAM_PROMPT_ECHO_OFF)
			answer = answers_used < answer_count ? answers[answers_used++] : "!";
		if (answer != NULL && strcmp(answer, "!") == 0) {
			free(list);
			return PAM_CONV_ERR;
		}
		if (answer != NULL && strcmp(answer, "-") != 0)
			list[i].resp = strdup(answer);
	}
	*responses = list;
	return PAM_SUCCESS;
}

static struct pam_conv conv = { conversation, NULL };

static void die(const char *what)
{
	report("error %s: %s", what, strerror(errno));
	_exit(3);
}

/* What a module must leave alone. */
struct state {
	struct sigaction actions[65];
	sigset_t mask;
	mode_t umask;
	char cwd[4096];
	char fds[4096];
	char *environ_copy[256];
	char **environ_list;
	int threads;
};

static struct state before, after;

static int count_threads(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;

	if (d == NULL)
		die("/proc/self/task");
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 2;
}

static void snapshot(struct state *s)
{
	struct stat st;
	size_t n = 0;

	memset(s, 0, sizeof *s);
	for (int sig = 1; sig <= 64; sig++)
		sigaction(sig, NULL, &s->actions[sig]);
	sigprocmask(SIG_SETMASK, NULL, &s->mask);
	s->umask = umask(0);
	umask(s->umask);
	if (getcwd(s->cwd, sizeof s->cwd) == NULL)
		die("getcwd");
	for (int fd = 0; fd < 256; fd++)
		if (fstat(fd, &st) == 0)
			n += (size_t)snprintf(s->fds + n, sizeof s->fds - n, "%d:%llu:%llu:%d,", fd,
					      (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
					      fcntl(fd, F_GETFD));
	s->environ_list = environ;
	for (n = 0; environ != NULL && environ[n] != NULL && n < 255; n++)
		s->environ_copy[n] = strdup(environ[n]);
	s->threads = count_threads();
}

static bool same_mask(const sigset_t *a, const sigset_t *b)
{
	for (int sig = 1; sig <= 64; sig++)
		if (sigismember(a, sig) != sigismember(b, sig))
			return false;
	return true;
}

static void compare(void)
{
	size_t n = 0;

	snapshot(&after);
	for (int sig = 1; sig <= 64; sig++)
		if (before.actions[sig].sa_handler != after.actions[sig].sa_handler ||
		    before.actions[sig].sa_flags != after.actions[sig].sa_flags ||
		    !same_mask(&before.actions[sig].sa_mask, &after.actions[sig].sa_mask))
			report("changed signal %d", sig);
	if (!same_mask(&before.mask, &after.mask))
		report("changed signal mask");
	if (before.umask != after.umask)
		report("changed umask");
	if (strcmp(before.cwd, after.cwd) != 0)
		report("changed working directory");
	if (strcmp(before.fds, after.fds) != 0)
		report("changed descriptors: %s became %s", before.fds, after.fds);
	if (before.threads != after.threads)
		report("changed threads: %d became %d", before.threads, after.threads);
	for (; before.environ_copy[n] != NULL && after.environ_copy[n] != NULL; n++)
		if (strcmp(before.environ_copy[n], after.environ_copy[n]) != 0)
			report("changed environment: %s", after.environ_copy[n]);
	if (before.environ_copy[n] != after.environ_copy[n] || before.environ_list != after.environ_list)
		report("changed environment list");
	report("compared");
}

static void handler(int sig)
{
	(void)sig;
}

/* install puts a handler of its own and odd flags on every signal that can have one. */
static void install(void)
{
	struct sigaction sa = { .sa_handler = handler };

	for (int sig = 1; sig <= 64; sig++) {
		sa.sa_flags = sig % 2 ? SA_RESTART : SA_NODEFER;
		if (sig != SIGSEGV && sig != SIGABRT)
			sigaction(sig, &sa, NULL);
	}
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &sa.sa_mask, NULL);
	umask(0137);
}

/* raw calls a function of the module itself: NAME,SO,ARGUMENT,... */
static void raw(char *spec)
{
	const char *argv[16], *name = strsep(&spec, ","), *so = strsep(&spec, ",");
	char symbol[64];
	void *lib = dlopen(so, RTLD_NOW);
	int (*hook)(pam_handle_t *, int, int, const char **);
	int argc = 0;

	while (spec != NULL && argc < 16)
		argv[argc++] = strsep(&spec, ",");
	snprintf(symbol, sizeof symbol, "pam_sm_%s", name);
	if (lib == NULL)
		die(dlerror());
	*(void **)&hook = dlsym(lib, symbol);
	if (hook == NULL)
		die(symbol);
	result = hook(pamh, flags, argc, argv);
	report("%s %d", name, result);
}

static void use_up_descriptors(int left)
{
	struct rlimit limit = { 64, 64 };
	int fds[64], n = 0;

	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		die("RLIMIT_NOFILE");
	while (n < 64 && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	while (left-- > 0 && n > 0)
		close(fds[--n]);
}

static void limit(int what, const char *value)
{
	struct rlimit l = { strtoul(value, NULL, 10), strtoul(value, NULL, 10) };

	if (setrlimit(what, &l) != 0)
		die("setrlimit");
}

static void fork_here(void)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork");
	if (pid == 0)
		return;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	report("child %d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	_exit(0);
}

/* storm has an alarm every 200 microseconds, without SA_RESTART. */
static void storm(void)
{
	struct itimerval often = { { 0, 200 }, { 0, 200 } };
	struct sigaction sa = { .sa_handler = handler };

	if (sigaction(SIGALRM, &sa, NULL) != 0 || setitimer(ITIMER_REAL, &often, NULL) != 0)
		die("storm");
}

static void broken_pipe(void)
{
	int p[2];

	if (pipe(p) != 0)
		die("pipe");
	close(p[0]);
	if (write(p[1], "x", 1) < 0)
		report("write %s", strerrorname_np(errno));
	close(p[1]);
}

static void set_item(const char *spec)
{
	static const struct {
		const char *name;
		int item;
	} items[] = { { "TTY=", PAM_TTY }, { "RHOST=", PAM_RHOST }, { "RUSER=", PAM_RUSER }, { "SERVICE=", PAM_SERVICE }, { "USER=", PAM_USER } };

	for (size_t i = 0; i < sizeof items / sizeof *items; i++)
		if (strncmp(spec, items[i].name, strlen(items[i].name)) == 0 &&
		    pam_set_item(pamh, items[i].item, spec + strlen(items[i].name)) != PAM_SUCCESS)
			die(spec);
}

static void pam_step(const char *step)
{
	static const struct {
		const char *name;
		int (*function)(pam_handle_t *, int);
	} calls[] = {
		{ "authenticate", pam_authenticate }, { "acct_mgmt", pam_acct_mgmt },
		{ "setcred", pam_setcred }, { "open_session", pam_open_session },
		{ "close_session", pam_close_session }, { "chauthtok", pam_chauthtok },
	};

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		if (strcmp(step, calls[i].name) != 0)
			continue;
		result = calls[i].function(pamh, flags | (strcmp(step, "setcred") == 0 ? PAM_ESTABLISH_CRED : 0));
		report("%s %d", step, result);
		return;
	}
	report("error: unknown step %s", step);
	_exit(2);
}

static void *thread_step(void *step)
{
	pam_step(step);
	return NULL;
}

static void thread(char *step)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	if (pthread_create(&t, &attr, thread_step, step) != 0)
		die("pthread_create");
	pthread_join(t, NULL);
}

static bool has(const char *step, const char *prefix, char **value)
{
	size_t len = strlen(prefix);

	if (strncmp(step, prefix, len) != 0)
		return false;
	*value = strdup(step + len);
	return true;
}

static void run(const char *confdir, const char *service, const char *step)
{
	char *v = NULL;

	if (has(step, "start=", &v)) {
		const char *user = strcmp(v, "-") == 0 ? NULL : v;
		int code = pam_start_confdir(service, user, &conv, confdir, &pamh);

		if (code != PAM_SUCCESS)
			report("start %d", code);
	} else if (has(step, "raw=", &v)) {
		raw(v);
	} else if (has(step, "answer=", &v)) {
		answers[answer_count++] = strdup(v);
	} else if (has(step, "item=", &v)) {
		set_item(v);
	} else if (has(step, "pamenv=", &v)) {
		pam_putenv(pamh, v);
	} else if (has(step, "flags=", &v)) {
		flags = (int)strtoul(v, NULL, 0);
	} else if (has(step, "thread=", &v)) {
		thread(v);
	} else if (has(step, "setuid=", &v)) {
		uid_t uid = (uid_t)strtoul(v, NULL, 10);

		if (setresuid(uid, uid, uid) != 0)
			die("setresuid");
	} else if (has(step, "as=", &v)) {
		limit(RLIMIT_AS, v);
	} else if (has(step, "nproc=", &v)) {
		limit(RLIMIT_NPROC, v);
	} else if (has(step, "descriptors=", &v)) {
		use_up_descriptors(atoi(v));
	} else if (strcmp(step, "noconv") == 0) {
		struct pam_conv none = { NULL, NULL };

		conv = none;
		pam_set_item(pamh, PAM_CONV, &none);
	} else if (strcmp(step, "nostdio") == 0) {
		close(0), close(1), close(2);
	} else if (strcmp(step, "clearenv") == 0) {
		clearenv();
	} else if (strcmp(step, "fork") == 0) {
		fork_here();
	} else if (strcmp(step, "storm") == 0) {
		storm();
	} else if (strcmp(step, "install") == 0) {
		install();
	} else if (strcmp(step, "snapshot") == 0) {
		snapshot(&before);
	} else if (strcmp(step, "compare") == 0) {
		compare();
	} else if (strcmp(step, "brokenpipe") == 0) {
		broken_pipe();
	} else if (strcmp(step, "end") == 0) {
		pam_end(pamh, result);
	} else {
		pam_step(step);
	}
	free(v);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	report_fd = fcntl(1, F_DUPFD_CLOEXEC, 20);
	if (report_fd < 0)
		return 3;
	for (int i = 3; i < argc; i++)
		run(argv[1], argv[2], argv[i]);
	report("end");
	return 0;
}
