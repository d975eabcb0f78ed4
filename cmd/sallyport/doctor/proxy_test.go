// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
)

// doctor goes the way that authd goes: what it finds is what a login meets.
func TestDoctorTakesAuthdsProxy(t *testing.T) {
	s, p, other := verifiertest.New(t), verifiertest.NewProxy(t, false), verifiertest.NewProxy(t, false)
	t.Setenv("HTTPS_PROXY", other.URL.String())
	t.Setenv("ALL_PROXY", other.URL.String())
	examine := func(table string) []Finding {
		t.Helper()
		c, err := config.Parse("authd.toml", fmt.Sprintf("[verifier]\nurls = [%q]\nintegration_key = \"DI1\"\nsecret_key_file = \"unused\"\nca_file = %q\n%s", s.URL, s.CAFile, table))
		if err != nil {
			t.Fatal(err)
		}
		h := Host{HTTP: HTTP, Now: time.Now}
		return h.examineVerifier(t.Context(), c)
	}
	if f := examine(""); f[0].Status != OK || len(p.Targets()) != 0 {
		t.Errorf("directly: %+v", f)
	}
	table := fmt.Sprintf("[verifier.proxy]\nurl = %q\n", p.URL)
	if f := examine(table); f[0].Status != OK || len(p.Targets()) != 1 {
		t.Errorf("through the proxy: %+v, tunnels %q", f, p.Targets())
	}
	p.Close()
	if f := examine(table); f[0].Status != Fail || !strings.Contains(f[0].Fix, "verifier.proxy") {
		t.Errorf("through a proxy that is away: %+v", f)
	}
	if len(other.Targets()) != 0 {
		t.Error("the environment had a say")
	}
}
