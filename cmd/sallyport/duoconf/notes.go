// SPDX-License-Identifier: Apache-2.0

package duoconf

import (
	"fmt"
	"strings"
)

// note says what became of an option that the file sets.
func (c *Conf) note(option string, d *document) Note {
	n := Note{Option: option}
	s := d.Services["default"]
	switch option {
	case "ikey":
		n.Becomes = "verifier.integration_key"
	case "skey":
		n.Becomes, n.Why = "verifier.secret_key_file", "the key itself goes to that file alone"
	case "host":
		n.Becomes = "verifier.urls"
	case "cafile":
		n = c.noteCA()
	case "noverify":
		n.Why = "a certificate is always checked; verifier.ca_file names the CA of one that is not public"
	case "http_proxy":
		n.Becomes = "verifier.proxy"
		if d.Verifier.Proxy != nil && d.Verifier.Proxy.PasswordFile != "" {
			n.Why = "the password goes to a file of its own"
		}
	case "groups":
		n = c.noteGroups()
	case "failmode":
		n = c.noteFailMode()
	case "pushinfo":
		n.Becomes, n.Why = set("push_command", s.PushCommand), "the command of sudo alone is shown"
	case "prompts":
		n.Becomes = fmt.Sprintf("services.default.attempts = %d", s.Attempts)
	case "autopush":
		n.Becomes = set("autopush", s.AutoPush)
	case "accept_env_factor":
		n.Becomes, n.Why = set("accept_env_factor", s.AcceptEnvFactor), "DUO_PASSCODE is read as before, and SALLYPORT_PASSCODE"
	case "https_timeout":
		n = c.noteTimeout(d)
	case "send_gecos", "gecos_delim", "gecos_username_pos":
		n = c.noteGECOS(option)
	default:
		n.Why = nothingLike[option]
	}
	return n
}

// nothingLike says why options have no equivalent.
var nothingLike = map[string]string{
	"fallback_local_ip": "an address that is not the client's is never reported: rules and logs would rest on it",
	"gecos_parsed":      "Duo's programs ignore it too; mapping takes pieces of the GECOS field",
	"dev_fips_mode":     "the programs use Go's own cryptography, which runs in FIPS 140-3 mode with GODEBUG=fips140=on in authd's environment",
	"verified_push":     "the verifier's policy decides; digits are always understood here",
	"motd":              "pam_motd.so and sshd's PrintMotd show it",
}

func set(key string, on bool) string { return fmt.Sprintf("services.default.%s = %t", key, on) }

func (c *Conf) noteCA() Note {
	switch {
	case *c.CAFile == "":
		return Note{Option: "cafile", Why: "empty, it switches the check of certificates off; they are always checked, by the system's CAs"}
	case c.NoVerify:
		return Note{Option: "cafile", Why: "noverify made Duo's programs overlook it; set verifier.ca_file if it is right"}
	}
	return Note{Option: "cafile", Becomes: "verifier.ca_file", Why: "it replaces the system's CAs; make sure that only root can change it"}
}

func (c *Conf) noteGroups() Note {
	if c.wildcards() {
		return Note{Option: "groups", Why: fmt.Sprintf("groups cannot be named by wildcards (%s): everybody is asked; write rules for those who are not to be", strings.Join(c.Groups, " "))}
	}
	return Note{Option: "groups", Becomes: "[[rules]]", Why: "the last rule lets everybody else in without a second factor, as Duo's programs do; each time is in the log. Take it out to ask everybody"}
}

func (c *Conf) noteFailMode() Note {
	n := Note{Option: "failmode", Becomes: `services.default.fail_mode = "secure"`}
	if !c.Secure {
		n.Becomes = `services.default.fail_mode = "open"`
		n.Why = "warning: while no verifier answers everyone gets in who has the first factor, within limits that Duo's had not (open_minutes, open_uses, open_local); consider \"secure\" with break-glass codes, or \"offline\""
		if !c.Has("failmode") {
			n.Why = "the file does not set it, and Duo's default is safe; " + n.Why
		}
	}
	return n
}

func (c *Conf) noteTimeout(d *document) Note {
	n := Note{Option: "https_timeout"}
	if c.HTTPSTimeout == 0 {
		n.Why = "no limit: every wait has one here; see [timeouts]"
		return n
	}
	n.Becomes = "timeouts.request_timeout = " + d.Timeouts["request_timeout"]
	if c.HTTPSTimeout < leastTimeout || c.HTTPSTimeout > topTimeout {
		n.Why = fmt.Sprintf("%d s is out of its bounds", c.HTTPSTimeout)
	}
	return n
}

func (c *Conf) noteGECOS(option string) Note {
	n := Note{Option: option}
	if !c.SendGECOS {
		n.Why = "without send_gecos = yes it changes nothing"
		return n
	}
	n.Becomes = "services.default.mapping"
	if option != "send_gecos" {
		return n
	}
	n.Why = "a piece that users may change themselves (CHFN_RESTRICT in /etc/login.defs) is refused"
	if c.GECOSPosition == 0 {
		n.Why = fmt.Sprintf("Duo sent the whole field, here it is the part before the first %q; %s", c.GECOSDelim, n.Why)
	}
	return n
}
