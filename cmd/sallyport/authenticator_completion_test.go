// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// A verifier's ids and labels reach the shell only as plain words, what it says of them
// only without control characters.
func TestCompletionsAreWords(t *testing.T) {
	t.Parallel()
	const good = "db1-K7QX"
	names := []string{good, "", "--fraud", "a b", "$(id)", "a;id", "a\tb", "a\nb", "a\x1b]0;x\a", "a\u202eb", "é"}
	verifier := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var response any
		switch {
		case strings.HasSuffix(r.URL.Path, "/devices"):
			var list []agentapi.Device
			for _, name := range names {
				list = append(list, agentapi.Device{AuthenticatorID: name, Name: "\x1b[1m"})
			}
			response = map[string]any{"devices": list}
		case strings.HasSuffix(r.URL.Path, "/transactions"):
			var list []agentapi.Transaction
			for _, name := range names {
				text, err := json.Marshal(agentapi.Context{Version: 1, TxID: name, Username: "\x1b[1m"})
				if err != nil {
					t.Error(err)
				}
				list = append(list, agentapi.Transaction{TxID: name, Context: string(text)})
			}
			response = agentapi.Transactions{Transactions: list}
		default:
			var list []agentapi.OfflineHost
			for _, name := range names {
				list = append(list, agentapi.OfflineHost{HostID: "H" + name, Label: name, Name: "\x1b[1m"})
			}
			response = map[string]any{"hosts": list}
		}
		text, err := json.Marshal(response)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"stat":"OK","response":%s}`, text)
	}))
	t.Cleanup(verifier.Close)

	store := authenticator.Store{Dir: t.TempDir()}
	vault, err := store.Vault(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: verifier.Certificate().Raw})
	a, err := store.Add(authenticator.Account{AuthenticatorID: "DPA", URL: verifier.URL, Username: "alice", CAPEM: string(ca)},
		authenticator.Secrets{Key: key}, vault)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []agentapi.OfflineHost
	for _, name := range names {
		hosts = append(hosts, agentapi.OfflineHost{HostID: "H" + name, Label: name, Name: "\x1b[1m"})
	}
	if _, err := store.KeepHosts(a.AuthenticatorID, hosts, time.Now()); err != nil {
		t.Fatal(err)
	}
	for what, args := range map[string][]string{
		"requests": {"approve", "--txid", ""},
		"devices":  {"devices", "rm", ""},
		"hosts":    {"offline", ""},
	} {
		var out bytes.Buffer
		root := newRoot(&app{
			Terminal: &cli.Terminal{In: strings.NewReader(""), Out: &out, Err: &bytes.Buffer{}, Now: time.Now},
			env:      func(string) string { return "" },
		})
		root.SetOut(&out)
		root.SetErr(&bytes.Buffer{})
		root.SetArgs(append([]string{cobra.ShellCompRequestCmd, "authenticator", "--dir", store.Dir}, args...))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		got, _, ok := strings.Cut(out.String(), "\n:")
		if !ok || !strings.HasPrefix(got, good+"\t") || strings.ContainsAny(got, "\n\x1b") {
			t.Errorf("%s: the shell is given %q; want a line for %s alone", what, out.String(), good)
		}
	}
}
