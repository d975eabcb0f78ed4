// SPDX-License-Identifier: Apache-2.0

// Package loginlog reads the events of logins from authd's log, in each form in
// which it is written, back into what the rules were told. It never guesses: what
// the log does not say is unknown.
package loginlog

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// Login is one event of the log.
type Login struct {
	ID     string
	Source string       // as in the log, "" for a local login
	Action rules.Action // what the rules said then; "": they were not asked
	Rule   string       // which one said so; "": none
	Facts  rules.Facts  // without groups
}

// maxLine bounds a line of the log, in bytes.
const maxLine = 1 << 20

// Read yields the events `login` of a log: text or JSON lines as authd writes
// them, lines of syslog with the text form in them, or the output of journalctl
// -o json. Lines of any other kind are passed over.
func Read(r io.Reader) iter.Seq2[Login, error] {
	return func(yield func(Login, error) bool) {
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 64<<10), maxLine)
		for n := 1; s.Scan(); n++ {
			fields := parseLine(s.Text())
			if fields["event"] != "login" {
				continue
			}
			if !yield(read(fields), nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(Login{}, fmt.Errorf("a line of more than %d bytes, or: %w", maxLine, err))
		}
	}
}

// parseLine returns the attributes of a line by their names in authd's log; the
// time is in RFC 3339.
func parseLine(line string) map[string]string {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "{") {
		return parseJSON(line)
	}
	return parseText(line)
}

// Names of the journal's own fields.
const (
	journalPrefix = "SALLYPORT_"
	journalTime   = "__REALTIME_TIMESTAMP" // microseconds
)

func parseJSON(line string) map[string]string {
	var object map[string]any
	if json.Unmarshal([]byte(line), &object) != nil {
		return nil
	}
	out := map[string]string{}
	for key, value := range object {
		text, ok := value.(string)
		if !ok {
			continue // numbers of the event are not asked for; the journal has bytes that are no text as a list
		}
		switch name, ours := strings.CutPrefix(key, journalPrefix); {
		case key == journalTime:
			if us, err := strconv.ParseInt(text, 10, 64); err == nil {
				out["time"] = time.UnixMicro(us).UTC().Format(time.RFC3339Nano)
			}
		case ours:
			out[strings.ToLower(name)] = text
		case object[journalTime] == nil:
			out[key] = text
		}
	}
	return out
}

// parseText reads key=value, the values quoted as Go does where they need it. A
// prefix, as of syslog, is passed over.
func parseText(line string) map[string]string {
	out := map[string]string{}
	for line != "" {
		line = strings.TrimLeft(line, " ")
		end := strings.IndexAny(line, " =")
		if end < 0 {
			break
		}
		if line[end] == ' ' {
			line = line[end:]
			continue
		}
		key := line[:end]
		line = line[end+1:]
		var value string
		if strings.HasPrefix(line, `"`) {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil
			}
			if value, err = strconv.Unquote(quoted); err != nil {
				return nil
			}
			line = line[len(quoted):]
		} else {
			value, line, _ = strings.Cut(line, " ")
		}
		if _, twice := out[key]; twice {
			return nil // not a line of authd's
		}
		out[key] = value
	}
	return out
}

func read(fields map[string]string) Login {
	l := Login{ID: fields["id"], Source: fields["source"], Rule: fields["rule"], Action: rules.Action(fields["action"])}
	if l.Action == "" {
		switch fields["reason"] {
		case "rule_deny":
			l.Action = rules.Deny
		case "rule_bypass":
			l.Action = rules.Bypass
		}
	}
	f := rules.Facts{User: fields["user"], Service: fields["service"]}
	if at, err := time.Parse(time.RFC3339Nano, fields["time"]); err == nil {
		f.Time = at
	}
	if l.Source != "" {
		addr, err := netip.ParseAddr(l.Source)
		f.Source, f.SourceUnknown = addr, err != nil
	}
	readKeys(&f, fields)
	readSwitch(&f, fields)
	l.Facts = f
	return l
}

func readKeys(f *rules.Facts, fields map[string]string) {
	keys, said := fields["keys"]
	switch {
	case !said && rules.Local(f.Service), keys == "none":
	case !said, keys == "unknown":
		f.KeysUnknown, f.CertificatesUnknown = true, true
	default:
		f.Keys = strings.Split(keys, ",")
	}
	if text, said := fields["certificates"]; said && json.Unmarshal([]byte(text), &f.Certificates) != nil {
		f.Certificates, f.CertificatesUnknown = nil, true
	}
}

func readSwitch(f *rules.Facts, fields map[string]string) {
	f.CommandUnknown = rules.KnowsCommand(f.Service) // commands are never logged
	if !rules.KnowsTarget(f.Service) {
		return
	}
	target, said := fields["switch_to"]
	if !said && f.Service == rules.Gateway {
		target, said = fields["gateway_target"]
	}
	if !said && rules.ChangesAccount(f.Service) && !rules.KnowsCommand(f.Service) {
		// For su it is PAM_USER, which the event names only where it is not the person.
		if target, said = fields["target"]; !said {
			target, said = f.User, true
		}
	}
	f.Target, f.TargetUnknown = target, !said || target == "unknown"
	if f.TargetUnknown {
		f.Target = ""
	}
}
