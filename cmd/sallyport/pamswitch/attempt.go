// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	osuser "os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/msteinert/pam/v2"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
)

// Ask puts a question of a module to the person.
type Ask func(echo bool, question string) (string, error)

// Make makes an attempt in this process, which is good for nothing else after it.
// Without ask every question fails, as where nobody is.
func (a Attempt) Make(ask Ask, show func(string)) Outcome {
	// Modules look at the ids of the calling thread.
	runtime.LockOSThread()
	for _, path := range a.Modules {
		if err := doctor.Load(path); err != nil {
			return Outcome{Fault: path + " does not load, so libpam would refuse everyone: " + err.Error()}
		}
	}
	if a.Caller != "" {
		if err := pose(a.Caller); err != nil {
			return Outcome{Fault: err.Error()}
		}
	}
	tx, err := pam.StartConfDir(a.Service, a.User, pam.ConversationFunc(func(s pam.Style, text string) (string, error) {
		switch {
		case s == pam.ErrorMsg || s == pam.TextInfo:
			if show != nil {
				show(text)
			}
			return "", nil
		case ask == nil:
			return "", pam.ErrConv
		}
		return ask(s == pam.PromptEchoOn, text)
	}), a.Dir)
	if err != nil {
		return Outcome{Fault: "start a PAM transaction: " + err.Error()}
	}
	defer func() { _ = tx.End() }() // the answer is known
	if err := a.describe(tx); err != nil {
		return Outcome{Fault: err.Error()}
	}
	out := Outcome{Auth: name(tx.Authenticate(0))}
	if out.Auth == success || !a.Asks {
		out.Account = name(tx.AcctMgmt(0))
	}
	return out
}

// describe sets what a program tells libpam of a login.
func (a Attempt) describe(tx *pam.Transaction) error {
	if a.RUser != "" {
		if err := tx.SetItem(pam.Ruser, a.RUser); err != nil {
			return fmt.Errorf("start a PAM transaction: %w", err)
		}
	}
	if !a.Key {
		return nil
	}
	// A key that nobody has stands for the one that sshd would have checked: a rule
	// that names keys does not match it.
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if err := tx.PutEnv("SSH_AUTH_INFO_0=publickey " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))); err != nil {
		return fmt.Errorf("start a PAM transaction: %w", err)
	}
	return nil
}

// uids that hardly any system has; of the trial user.
var absent = []int{4294900000, 65533, 64999, 59999}

// pose gives the process the real uid of a user, as programs have that a user
// started with root's rights. The trial user has one that belongs to nobody.
func pose(user string) error {
	if os.Geteuid() != 0 {
		return nil // it is a user's process already
	}
	if user != trialUser {
		u, err := osuser.Lookup(user)
		if err != nil {
			return fmt.Errorf("look up %s: %w", user, err)
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return fmt.Errorf("look up %s: %w", user, err)
		}
		return syscall.Setreuid(uid, 0)
	}
	var unknown osuser.UnknownUserIdError
	for _, uid := range absent {
		if _, err := osuser.LookupId(strconv.Itoa(uid)); errors.As(err, &unknown) && syscall.Setreuid(uid, 0) == nil {
			return nil
		}
	}
	return errors.New("no uid is free for a trial")
}

// Report writes an outcome to the descriptor that the parent reads.
func (o Outcome) Report(w io.Writer) error { return json.NewEncoder(w).Encode(o) }

// ReportTo is the descriptor that [Trial] gives to the process of an attempt.
func ReportTo() *os.File { return os.NewFile(3, "outcome") }

// name is libpam's name of a result.
func name(err error) string {
	var code pam.Error
	switch {
	case err == nil:
		return success
	case !errors.As(err, &code):
		return err.Error()
	}
	if n, ok := codes[code]; ok {
		return n
	}
	return "error " + strconv.Itoa(int(code))
}

var codes = map[pam.Error]string{
	pam.ErrOpen: "open_err", pam.ErrSymbol: "symbol_err", pam.ErrService: "service_err", pam.ErrSystem: "system_err",
	pam.ErrBuf: "buf_err", pam.ErrPermDenied: "perm_denied", pam.ErrAuth: "auth_err", pam.ErrCredInsufficient: "cred_insufficient",
	pam.ErrAuthinfoUnavail: "authinfo_unavail", pam.ErrUserUnknown: "user_unknown", pam.ErrMaxtries: "maxtries",
	pam.ErrNewAuthtokReqd: "new_authtok_reqd", pam.ErrAcctExpired: "acct_expired", pam.ErrConv: "conv_err", pam.ErrIgnore: "ignore",
	pam.ErrAbort: "abort", pam.ErrModuleUnknown: "module_unknown",
}
