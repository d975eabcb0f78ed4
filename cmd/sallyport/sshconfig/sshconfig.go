// SPDX-License-Identifier: Apache-2.0

// Package sshconfig writes what a client of the gateway needs in its ssh_config(5) and
// known_hosts. It reads no file, and never changes one.
package sshconfig

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Alias is what the gateway is called in the snippet.
const Alias = "sallyport-gw"

// Gateway is where the gateway is, and who one is there.
type Gateway struct {
	Host string // a name or an address
	Port uint16
	User string // "": ssh's own choice
}

// ParseGateway reads HOST[:PORT]; without a port it is 22.
func ParseGateway(s string) (Gateway, error) {
	host, port := s, "22"
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	}
	name, addr, ok := inventory.Host(host)
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || n == 0 {
		return Gateway{}, fmt.Errorf("%q is not of the form HOST or HOST:PORT", s)
	}
	if addr.IsValid() {
		name = addr.String()
	}
	return Gateway{Host: name, Port: uint16(n)}, nil
}

// CheckUser says whether a name can stand in a configuration as the user's.
func CheckUser(s string) error {
	if !inventory.Login(s) || strings.ContainsAny(s, `"'\#%`) {
		return fmt.Errorf("%q is no name of a user", s)
	}
	return nil
}

// perLine is how many names stand in a Host line.
const perLine = 16

// Config is the snippet for ssh_config. Names of an inventory are of characters that mean
// nothing in it, but for the stars of patterns, which mean the same.
func Config(g Gateway, inventories []*inventory.Inventory) (string, error) {
	if g.User != "" {
		if err := CheckUser(g.User); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	b.WriteString("# Through the SSH gateway; for ~/.ssh/config. The first value that ssh finds holds,\n# so this stands before what is more general.\n\n")
	fmt.Fprintf(&b, "Host %s\n    HostName %s\n    Port %d\n", names(Alias, g.Host), g.Host, g.Port)
	if g.User != "" {
		fmt.Fprintf(&b, "    User %s\n", g.User)
	}
	b.WriteString(`    # The cipher that costs least, on both sides.
    Ciphers ^aes128-gcm@openssh.com
    # One connection for all: the second factor is asked for once.
    ControlMaster auto
    ControlPath ~/.ssh/sallyport-%C
    ControlPersist 10m
    # Longer than an answer to a push may take.
    ServerAliveInterval 15
    ServerAliveCountMax 8
`)
	all, logins := targets(inventories)
	for _, login := range logins {
		if err := CheckUser(login.name); err != nil {
			continue // whoever wants to be that says so
		}
		for chunk := range slices.Chunk(login.targets, perLine) {
			fmt.Fprintf(&b, "\nHost %s\n    User %s\n", strings.Join(chunk, " "), login.name)
		}
	}
	if len(all) == 0 {
		b.WriteString("\n# Servers are reached by  ssh -J " + Alias + " NAME  or  ssh USER%NAME@" + Alias + ". To need neither:\n# Host NAME …\n#     ProxyJump " + Alias + "\n")
	}
	for chunk := range slices.Chunk(all, perLine) {
		fmt.Fprintf(&b, "\nHost %s\n    ProxyJump %s\n    Ciphers ^aes128-gcm@openssh.com\n", strings.Join(chunk, " "), Alias)
	}
	return b.String(), nil
}

func names(list ...string) string { return strings.Join(slices.Compact(list), " ") }

type loginTargets struct {
	name    string
	targets []string
}

// targets are the names by which a person may call servers, and those with a login of
// their own, by it.
func targets(inventories []*inventory.Inventory) (all []string, logins []loginTargets) {
	add := func(t *inventory.Target, names ...string) {
		all = append(all, names...)
		if len(t.Logins) == 0 {
			return
		}
		i := slices.IndexFunc(logins, func(l loginTargets) bool { return l.name == t.Logins[0] })
		if i < 0 {
			i, logins = len(logins), append(logins, loginTargets{name: t.Logins[0]})
		}
		logins[i].targets = append(logins[i].targets, names...)
	}
	for _, inv := range inventories {
		for _, t := range inv.All() {
			add(t, append([]string{t.Name}, t.Aliases...)...)
		}
	}
	// What is written out goes before patterns, as in the gateway.
	for _, inv := range inventories {
		for _, t := range inv.Samples() {
			add(t, t.Pattern)
		}
	}
	return all, logins
}

// KnownHosts are the lines for known_hosts by which a client believes the gateway inside a
// jump: the keys of its host CA, for the targets and for nobody else.
func KnownHosts(authority string, inventories []*inventory.Inventory) (string, error) {
	all, _ := targets(inventories)
	if len(all) == 0 {
		return "", errors.New("name the targets with --inventory: the gateway's host CA is to be believed for them, and for nobody else")
	}
	var b strings.Builder
	rest := []byte(authority)
	for len(rest) > 0 {
		key, _, options, next, err := ssh.ParseAuthorizedKey(rest)
		if err != nil {
			break
		}
		if len(options) > 0 {
			return "", errors.New("the file of the host CA holds keys with options")
		}
		for chunk := range slices.Chunk(all, perLine) {
			fmt.Fprintf(&b, "@cert-authority %s %s\n", strings.Join(chunk, ","), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
		}
		rest = next
	}
	if b.Len() == 0 {
		return "", errors.New("the file of the host CA holds no public key")
	}
	return b.String(), nil
}
