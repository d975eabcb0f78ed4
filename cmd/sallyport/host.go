// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

var defaultConfigDir = filepath.Dir(config.DefaultPath)

func (a *app) hostCommand() *cobra.Command {
	c := &cobra.Command{Use: "host", Short: "This host's place at a verifier"}
	a.jsonFlag(c)
	c.AddCommand(a.hostJoin())
	return c
}

// join is one run of host join.
type join struct {
	*app
	token, name, dir    string
	socketDir, stateDir string
	force               bool
	proxy               proxyFlags
}

// joined is what host join prints with --json.
type joined struct {
	HostID         string `json:"host_id"`
	Name           string `json:"name"`
	IntegrationKey string `json:"integration_key"`
	URL            string `json:"url"`
	ConfigFile     string `json:"config_file"`
}

func (a *app) hostJoin() *cobra.Command {
	j := &join{app: a}
	c := &cobra.Command{
		Use: "join URL --token TOKEN", Short: "Take this host into a verifier", Args: args("URL"),
		Long: `Take this host into a verifier, as root, with a token of "sallyport admin host token".

The command makes the host's own key, checks that the server is the one that the
token was made at, and writes into the configuration folder: authd.toml,
secret_key, host_key.pem and, if the verifier has a CA of its own, ca.pem. Either
all of them are written or none. Nothing of PAM or sshd changes.`,
		RunE: func(c *cobra.Command, args []string) error { return j.run(c.Context(), args[0]) },
	}
	c.Flags().StringVar(&j.token, "token", "", "join token (required); - reads it from standard input")
	c.Flags().StringVar(&j.name, "name", "", "name of this host at the verifier (default: its host name)")
	c.Flags().StringVar(&j.dir, "config-dir", defaultConfigDir, "folder to write to")
	c.Flags().StringVar(&j.socketDir, "socket-dir", "/run/sallyport", "socket_dir of authd.toml")
	c.Flags().StringVar(&j.stateDir, "state-dir", "/var/lib/sallyport/authd", "state_dir of authd.toml")
	c.Flags().BoolVar(&j.force, "force", false, "replace what an earlier join wrote, authd.toml included")
	j.proxy.define(c)
	required(c, "token")
	return c
}

func (j *join) run(ctx context.Context, address string) error {
	base, err := parseBase(address)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	token, err := j.readToken()
	if err != nil {
		return err
	}
	if err := j.defaults(); err != nil {
		return err
	}
	proxy, err := j.proxy.table()
	if err != nil {
		return err
	}
	files := newFileSet(j.dir, j.force)
	if err := files.prepare("authd.toml", "secret_key", "host_key.pem", "ca.pem"); err != nil {
		return err
	}
	defer files.discard()

	key, err := keyproof.GenerateKey()
	if err != nil {
		return fmt.Errorf("make the host's key: %w", err)
	}
	id, err := keyproof.ID(agentapi.HostPrefix, &key.PublicKey)
	if err != nil {
		return fmt.Errorf("make the host's key: %w", err)
	}
	trust, ca := pinned(token, base.Hostname())
	client := &agentapi.Client{BaseURL: base, Key: key, KeyID: id, HTTP: agentapi.HTTPClient(trust, 30*time.Second), Now: j.Now}
	if proxy != nil {
		if err := proxy.through(client.HTTP, 10*time.Second); err != nil {
			return fmt.Errorf("--proxy: %w", err)
		}
	}
	// The key is on disk before the token is spent.
	text, err := keyproof.EncodePrivateKey(key)
	if err != nil {
		return err
	}
	if err := files.stageForDaemon("host_key.pem", text); err != nil {
		return err
	}
	got, err := client.Join(ctx, token.String(), j.name)
	if err != nil {
		return explainInvite("join", err)
	}
	if got.HostID != id {
		return fmt.Errorf("join: the verifier answered for another host: %q", got.HostID)
	}
	if err := j.stage(files, base.String(), got, ca(), proxy); err != nil {
		return err
	}
	if err := files.commit(); err != nil {
		return cli.WithHint(err, "the token is spent: revoke "+id+" and make another one")
	}
	return j.report(base.String(), got)
}

func (j *join) readToken() (invite.Token, error) {
	text := j.token
	if text == "-" {
		line, err := readLine(j.In)
		if err != nil {
			return invite.Token{}, fmt.Errorf("read the token from standard input: %w", err)
		}
		text = line
	}
	token, err := invite.Parse(invite.Join, strings.TrimSpace(text))
	if err != nil {
		return token, &cli.UsageError{Err: cli.WithHint(fmt.Errorf("--token: %w", err), "copy it whole from: sallyport admin host token")}
	}
	return token, nil
}

func (j *join) defaults() error {
	if j.name == "" {
		name, err := os.Hostname()
		if err != nil {
			return cli.WithHint(fmt.Errorf("find this host's name: %w", err), "give --name")
		}
		j.name = name
	}
	for _, path := range []*string{&j.dir, &j.socketDir, &j.stateDir} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("find folder: %w", err)
		}
		*path = abs
	}
	return nil
}

// pinned is the configuration of a first connection, and the CA that it found, in PEM.
func pinned(token invite.Token, host string) (*tls.Config, func() []byte) {
	trust := token.TLSConfig(host)
	verify := trust.VerifyConnection
	if verify == nil {
		return trust, func() []byte { return nil }
	}
	found := make(chan []byte, 1)
	trust.VerifyConnection = func(state tls.ConnectionState) error {
		if err := verify(state); err != nil {
			return err
		}
		for _, cert := range state.PeerCertificates {
			if cert.IsCA && string(invite.PinOf(cert)) == string(token.Pin) {
				select {
				case found <- pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}):
				default:
				}
			}
		}
		return nil
	}
	return trust, func() []byte {
		select {
		case ca := <-found:
			return ca
		default:
			return nil
		}
	}
}

// explainInvite says what to do about a join or an activation that was refused.
func explainInvite(what string, err error) error {
	again := "make another one"
	clock := "set this machine's clock, and give the address exactly as the verifier's url"
	return explain(what, err, map[int]string{
		duoapi.CodeJoinUnknown: again, duoapi.CodeJoinUsed: again, duoapi.CodeJoinExpired: again,
		duoapi.CodeJoinName:        "give --name as the token was made for",
		duoapi.CodeActivateUnknown: again, duoapi.CodeActivateUsed: again, duoapi.CodeActivateExpired: again,
		duoapi.CodeInvalidProof: clock, duoapi.CodeProofElsewhere: clock,
	})
}

func (j *join) stage(files *fileSet, url string, got agentapi.Joined, ca []byte, proxy *authdProxy) error {
	if got.IntegrationKey == "" || got.SecretKey == "" {
		return errors.New("join: the verifier gave no integration")
	}
	if err := files.stageForDaemon("secret_key", []byte(got.SecretKey+"\n")); err != nil {
		return err
	}
	caFile := ""
	if len(ca) > 0 {
		if err := files.stage("ca.pem", ca, 0o644); err != nil {
			return err
		}
		caFile = filepath.Join(j.dir, "ca.pem")
	}
	text, err := authdConfig(authdTOML{
		SocketDir: j.socketDir, StateDir: j.stateDir,
		Verifier: authdVerifier{
			URLs: []string{url}, IntegrationKey: got.IntegrationKey,
			SecretKeyFile: filepath.Join(j.dir, "secret_key"), CAFile: caFile,
			HostKeyFile: filepath.Join(j.dir, "host_key.pem"), Proxy: proxy,
		},
		Services: map[string]authdService{"default": {FailMode: "secure"}},
	})
	if err != nil {
		return err
	}
	// What authd would refuse is a fault of this command, found before anything is in place.
	if _, err := config.Parse("authd.toml", string(text)); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return files.stageForDaemon("authd.toml", text)
}

func (j *join) report(url string, got agentapi.Joined) error {
	path := filepath.Join(j.dir, "authd.toml")
	if j.json {
		return j.JSON(joined{HostID: got.HostID, Name: got.Name, IntegrationKey: got.IntegrationKey, URL: url, ConfigFile: path})
	}
	j.Printf("host %s joined %s as %s\n", got.HostID, url, j.name)
	j.Notef("Next:\n  sallyport-authd check --config %s\n  systemctl enable --now sallyport-authd.socket sallyport-authd-user.socket sallyport-authd.service\n"+
		"  sallyport doctor\n  sallyport pam enable sudo, with a root shell open; then sshd (docs/how-to/switch-on-safely.md)\n", path)
	return nil
}
