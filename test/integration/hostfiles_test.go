// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

// sshds are the SSH servers of a host. sshd names its PAM service after the
// program file that it was started as, so a link per service does the rest.
var sshds = []struct{ service, config, port string }{
	{"sshd", "sshd_config", "22"},
	// The mistake that this design must survive: the line AuthenticationMethods lost.
	{"sshd", "sshd_config_lost", "2201"},
	// Password, then factor, both in the PAM stack.
	{"sshd-password", "sshd_config_password", "2202"},
	// Pushes without asking first.
	{"sshd-auto", "sshd_config_auto", "2203"},
	// sshd's own password method, which answers PAM's hidden questions by itself.
	{"sshd-password", "sshd_config_method", "2204"},
}

const sshdCommon = `
UsePAM yes
KbdInteractiveAuthentication yes
PasswordAuthentication no
UseDNS no
LoginGraceTime 1300
MaxStartups 500
MaxAuthTries 10
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
`

// batchMatch is where the Match blocks of the batch rules go.
const batchMatch = "/etc/ssh/sshd_config.d/batch.conf"

var hostFiles = map[string]string{
	"/etc/ssh/sshd_config": sshdCommon + `
AuthenticationMethods publickey,keyboard-interactive:pam
Include ` + batchMatch + `
`,
	"/etc/ssh/sshd_config_lost": sshdCommon,
	"/etc/ssh/sshd_config_password": sshdCommon + `
AuthenticationMethods keyboard-interactive:pam
`,
	// The first value that sshd reads is the one that counts.
	"/etc/ssh/sshd_config_method": "PasswordAuthentication yes\n" + sshdCommon + `
AuthenticationMethods password
`,
	"/etc/ssh/sshd_config_auto": sshdCommon + `
AuthenticationMethods publickey,keyboard-interactive:pam
`,
	batchMatch: "",

	// As on Debian, with the module after pam_loginuid, which says whose login it is,
	// and before pam_env: what users put into ~/.pam_environment must not reach it.
	"/etc/pam.d/sshd": `
auth    required pam_sallyport.so
account required pam_unix.so
account required pam_sallyport.so
session required pam_loginuid.so
session required pam_sallyport.so
session required pam_unix.so
session required pam_env.so user_readenv=1
`,
	"/etc/pam.d/sshd-auto": `
auth    required pam_sallyport.so
account required pam_unix.so
account required pam_sallyport.so
session required pam_unix.so
session required pam_sallyport.so
`,
	"/etc/pam.d/sshd-password": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so
account required  pam_unix.so
account required  pam_sallyport.so
session required  pam_unix.so
session required  pam_sallyport.so
`,
	"/etc/pam.d/sudo": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so
account required  pam_unix.so
account required  pam_sallyport.so
session required  pam_unix.so
`,
	// A service that holds NOPASSWD to account too.
	"/etc/pam.d/sudo-gate": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so
account required  pam_unix.so
account required  pam_sallyport.so
session required  pam_unix.so
`,
	// A program of an ordinary user.
	"/etc/pam.d/screenlock": `
auth    required  pam_sallyport.so
`,
	// The factor alone, for runs by the thousand.
	"/etc/pam.d/sudo-many": `
auth    required  pam_sallyport.so
account required  pam_unix.so
session required  pam_unix.so
`,
	// Services of the fault scenarios: one that fails open, and one whose module
	// lets in where authd does not run.
	"/etc/pam.d/sudo-open": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so
account required  pam_unix.so
session required  pam_unix.so
`,
	"/etc/pam.d/sudo-unreachable": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so unreachable=allow
account required  pam_unix.so
session required  pam_unix.so
`,
	"/etc/pam.d/su": `
auth    sufficient pam_rootok.so
auth    requisite  pam_unix.so
auth    required   pam_sallyport.so
account required   pam_unix.so
session required   pam_unix.so
`,
	"/etc/sudoers.d/people": `
Defaults timestamp_timeout=0, passwd_tries=1, lecture=never
# Without this line sudo keeps the variables from its own PAM modules.
Defaults env_keep += "SALLYPORT_PASSCODE DUO_PASSCODE"
Defaults:%crowd pam_service=sudo-many
Defaults:%gated pam_service=sudo-gate
Defaults:%openers pam_service=sudo-open
Defaults:%unreachable pam_service=sudo-unreachable
%people ALL=(ALL) ALL
%nopasswd ALL=(ALL) NOPASSWD: ALL
`,
}

// rootPassword is what su asks for first.
const rootPassword = "the root password"

const hostSetUp = `
for group in people crowd openers unreachable gated nopasswd; do groupadd $group; done
echo 'root:` + rootPassword + `' | chpasswd
chmod 0440 /etc/sudoers.d/people
visudo -c >/dev/null
mkdir -p /run/sshd
for name in sshd sshd-password sshd-auto; do ln -sf /usr/sbin/sshd /usr/local/sbin/$name; done
cat >>/etc/sallyport/authd.toml <<'END'

# Tests fail often and have no time.
[throttle]
max_delay = "500ms"
shared_max_delay = "100ms"

[services.sudo]
accept_env_factor = true

[services.su]
accept_env_factor = true

[services.sudo-many]
person = "invoking"

[services.sudo-gate]
person = "invoking"
account_without_auth = "deny"

[services.sudo-unreachable]
person = "invoking"

[services.sudo-open]
person = "invoking"
fail_mode = "open"

[services.sshd-password]
first_factor = "stack"

[services.sshd-auto]
autopush = true
END
`
