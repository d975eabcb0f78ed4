// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

// authorizedLine is a key of a file of authorized keys, or a CA (cert-authority).
type authorizedLine struct {
	key        ssh.PublicKey
	authority  bool
	err        error // why it counts for nothing, though it may be matched
	limits     identity.Limits
	principals []string // of cert-authority; nil: the user's name
	from       [][]string
	expires    time.Time // the zero time: never
}

// parseAuthorized reads the lines of a file of authorized keys. A line that is none is
// passed over, as sshd does.
func parseAuthorized(text string) []authorizedLine {
	var list []authorizedLine
	for line := range strings.Lines(text) {
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			continue
		}
		if _, isCert := key.(*ssh.Certificate); isCert {
			continue // a certificate is no key
		}
		l := authorizedLine{key: key}
		l.err = l.read(options)
		list = append(list, l)
	}
	return list
}

// read reads the options of sshd(8) that the gateway can see to. One that it cannot, or
// does not know, makes the line count for nothing.
func (l *authorizedLine) read(options []string) error {
	// Whether a line is for certificates must be known even if another option is wrong.
	l.authority = slices.ContainsFunc(options, func(o string) bool { return strings.EqualFold(o, "cert-authority") })
	for _, option := range options {
		name, quoted, valued := strings.Cut(option, "=")
		name = strings.ToLower(name)
		if l.flag(name) != nil {
			if !valued {
				return fmt.Errorf("option %q is not one that the gateway can see to", name)
			}
			value, err := unquote(quoted)
			if err != nil {
				return fmt.Errorf("option %s: %w", name, err)
			}
			if err := l.value(name, value); err != nil {
				return fmt.Errorf("option %s: %w", name, err)
			}
		} else if valued {
			return fmt.Errorf("option %s takes no value", name)
		}
	}
	if len(l.principals) > 0 && !l.authority {
		return errors.New("option principals without cert-authority")
	}
	return nil
}

var errUnknownOption = errors.New("unknown")

// flag sets an option without a value; an error says that there is none of that name.
func (l *authorizedLine) flag(name string) error {
	switch name {
	case "cert-authority", "no-user-rc", "user-rc": // the gateway runs no rc file
	case "restrict":
		l.limits.NoPTY, l.limits.NoAgent, l.limits.NoForwarding, l.limits.NoX11 = true, true, true, true
	case "no-pty", "pty":
		l.limits.NoPTY = name[0] == 'n'
	case "no-agent-forwarding", "agent-forwarding":
		l.limits.NoAgent = name[0] == 'n'
	case "no-port-forwarding", "port-forwarding":
		l.limits.NoForwarding = name[0] == 'n'
	case "no-x11-forwarding", "x11-forwarding":
		l.limits.NoX11 = name[0] == 'n'
	default:
		return errUnknownOption
	}
	return nil
}

func (l *authorizedLine) value(name, value string) error {
	switch name {
	case "command":
		if l.limits.Command != "" {
			return errors.New("given twice")
		}
		if value == "" {
			return errors.New("empty")
		}
		l.limits.Command = value
	case "from":
		list := strings.Split(value, ",")
		for _, p := range list {
			if p = strings.TrimPrefix(p, "!"); p == "" || strings.ContainsAny(p, " \t") {
				return fmt.Errorf("%q is no list of addresses", value)
			}
		}
		l.from = append(l.from, list)
	case "expiry-time":
		t, err := expiry(value)
		if err != nil {
			return err
		}
		if l.expires.IsZero() || t.Before(l.expires) {
			l.expires = t
		}
	case "principals":
		if l.principals != nil {
			return errors.New("given twice")
		}
		l.principals = strings.Split(value, ",")
		if slices.Contains(l.principals, "") {
			return errors.New("an empty principal")
		}
	case "permitopen":
		if !destination(value, true) {
			return fmt.Errorf("%q is not host:port", value)
		}
		l.limits.PermitOpen = append(l.limits.PermitOpen, value)
	case "permitlisten":
		if !destination(value, false) {
			return fmt.Errorf("%q is not [host:]port", value)
		}
		l.limits.PermitListen = append(l.limits.PermitListen, value)
	default:
		return errors.New("not one that the gateway can see to")
	}
	return nil
}

// unquote takes the double quotes off a value; \" is a quote in it, as in sshd.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", errors.New("the value is not in double quotes")
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s)-1 && s[i+1] == '"':
			i++
		case s[i] == '"':
			return "", errors.New("a quote in the midst of the value")
		case s[i] == 0:
			return "", errors.New("a NUL in the value")
		}
		b.WriteByte(s[i])
	}
	if n := len(s); n >= 3 && s[n-2] == '\\' {
		return "", errors.New("the closing quote is escaped")
	}
	return b.String(), nil
}

// destination says whether a value is host:port, where a port may be an asterisk.
func destination(value string, host bool) bool {
	h, port, err := net.SplitHostPort(value)
	if err != nil {
		if host {
			return false
		}
		h, port = "localhost", value
	}
	if h == "" {
		return false
	}
	if port == "*" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && (n > 0 || !host)
}

// expiry reads YYYYMMDD[HHMM[SS]][Z]; without Z in the local time of the machine.
func expiry(value string) (time.Time, error) {
	where := time.Local
	digits, utc := strings.CutSuffix(value, "Z")
	if utc {
		where = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			return time.ParseInLocation(layout, digits, where)
		}
	}
	return time.Time{}, fmt.Errorf("%q is not YYYYMMDD[HHMM[SS]][Z]", value)
}

// permits says whether the line may be used from an address at a time.
func (l *authorizedLine) permits(source netip.Addr, now time.Time) error {
	if !l.expires.IsZero() && !now.Before(l.expires) {
		return errors.New("the key has expired")
	}
	for _, list := range l.from {
		if !comesFrom(list, source) {
			return fmt.Errorf("the key may not be used from %s", source)
		}
	}
	return nil
}

// comesFrom says whether an address fits a pattern list of sshd: networks, addresses and
// patterns of them, negated ones first. Names of hosts are not looked up, since whoever
// has the address says what its name is: a name fits nothing, and a negated name, which
// could be anybody's, fits everybody.
func comesFrom(list []string, source netip.Addr) bool {
	source = source.Unmap().WithZone("")
	fits := false
	for _, p := range list {
		p, negated := strings.CutPrefix(p, "!")
		var hit bool
		if n, err := netip.ParsePrefix(p); err == nil {
			hit = source.IsValid() && (n.Contains(source) || n.Addr().Is4In6() && n.Bits() >= 96 && netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96).Contains(source))
		} else if a, err := netip.ParseAddr(p); err == nil {
			hit = a.Unmap() == source
		} else if strings.Trim(p, "0123456789abcdefABCDEF.:*?") == "" {
			hit = source.IsValid() && match.Glob(strings.ToLower(p), source.String())
		} else {
			hit = negated
		}
		if hit && negated {
			return false
		}
		fits = fits || hit
	}
	return fits
}

// principalsOf is who a certificate must name to open the account.
func (l *authorizedLine) principalsOf(user string) []string {
	if l.principals == nil {
		return []string{user}
	}
	return l.principals
}
