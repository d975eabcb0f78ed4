// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

const (
	logsCertificate = "/etc/logs.pem"
	logsKey         = "/etc/logs.key"
)

// rsyslogd takes syslog by TCP and by TLS, into a file each.
const rsyslogConfig = `
global(DefaultNetstreamDriverCAFile="` + logsCertificate + `"
       DefaultNetstreamDriverCertFile="` + logsCertificate + `"
       DefaultNetstreamDriverKeyFile="` + logsKey + `")
module(load="imtcp")
template(name="events" type="string" string="%app-name% %msgid% %structured-data% %msg%\n")
ruleset(name="plain") { action(type="omfile" file="/var/log/plain.events" template="events") }
ruleset(name="tls") { action(type="omfile" file="/var/log/tls.events" template="events") }
input(type="imtcp" port="601" ruleset="plain")
input(type="imtcp" port="6514" ruleset="tls" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
`

const streamsConfig = `
[streams.plain]
url = "tcp://logs:601"
[streams.tls]
url = "tls://logs:6514"
ca_file = "logs.pem"
`

var streamed = regexp.MustCompile(`^sallyport-verifier administrator \[sallyport@32473 .*action="user_create".* id="([A-Z0-9]+)" object="(s[0-9]+)" seq="([0-9]+)"`)

// Debian's rsyslog takes every event by TCP and by TLS, in order, though it is
// killed and started again, and so is the verifier.
func TestStreamsToRsyslog(t *testing.T) {
	ctx := t.Context()
	lab, err := harness.NewLab(ctx, bench.image)
	must(t, err)
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	logs, err := lab.Start(ctx, "logs", harness.Options{})
	must(t, err)
	s := &site{lab: lab}
	s.verifier, err = lab.Start(ctx, "verifier", harness.Options{})
	must(t, err)
	must(t, install(ctx, s.verifier, []string{"sallyport", "sallyport-verifier"}))
	_, err = logs.Shell(ctx, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=logs \
		-addext subjectAltName=DNS:logs -out `+logsCertificate+` -keyout `+logsKey)
	must(t, err)
	certificate, err := logs.Read(ctx, logsCertificate)
	must(t, err)
	must(t, logs.Put(ctx, files(map[string]string{"/etc/rsyslog-streams.conf": rsyslogConfig})...))
	rsyslog := func() {
		t.Helper()
		must(t, logs.Daemon(ctx, "rsyslog", harness.Command{Args: []string{"rsyslogd", "-n", "-i", "NONE", "-f", "/etc/rsyslog-streams.conf"}}))
		must(t, logs.AwaitPort(ctx, "601"))
		must(t, logs.AwaitPort(ctx, "6514"))
	}
	rsyslog()
	_, err = s.verifier.Shell(ctx, "mkdir -p /var/lib/sallyport && sallyport-verifier init --data "+verifierData+" --url "+verifierURL)
	must(t, err)
	must(t, s.verifier.Put(ctx, harness.File{Path: verifierData + "/logs.pem", Mode: 0o644, Data: []byte(certificate)}))
	_, err = s.verifier.Shell(ctx, "cat >>"+verifierData+"/verifier.toml <<'END'\n"+streamsConfig+"END\n")
	must(t, err)
	must(t, s.runVerifier(ctx))

	added := 0
	add := func() {
		t.Helper()
		for range 5 {
			s.admin(t, nil, "user", "add", fmt.Sprintf("s%d", added))
			added++
		}
	}
	// arrived gives the users of a file in order, each once, and checks that no number is left out.
	arrived := func(file string) (users []string) {
		t.Helper()
		text, err := logs.Shell(ctx, "cat /var/log/"+file+" 2>/dev/null || true")
		must(t, err)
		seen, last := map[string]bool{}, 0
		for line := range strings.Lines(text) {
			m := streamed.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("%s holds %q", file, line)
			}
			if seen[m[1]] {
				continue
			}
			seen[m[1]] = true
			if seq, err := strconv.Atoi(m[3]); err != nil || seq != last+1 {
				t.Fatalf("%s: number %s after %d", file, m[3], last)
			}
			last++
			users = append(users, m[2])
		}
		return users
	}
	complete := func(what string) {
		t.Helper()
		for _, file := range []string{"plain.events", "tls.events"} {
			eventually(t, what+": "+file, func() bool { return len(arrived(file)) == added })
			for n, user := range arrived(file) {
				if user != fmt.Sprintf("s%d", n) {
					t.Errorf("%s: %s in place %d", file, user, n)
				}
			}
		}
	}
	add()
	complete("the first events")
	must(t, logs.Signal(ctx, "rsyslog", "KILL"))
	add()
	must(t, s.verifier.Signal(ctx, "verifier", "KILL"))
	must(t, s.runVerifier(ctx))
	add()
	rsyslog()
	complete("everything, once both are back")
}
