// SPDX-License-Identifier: Apache-2.0

package login

import (
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// offerTime is how long the digits of preauth can be used to start a push:
	// the time that a person has to read the menu.
	offerTime = 5 * time.Minute
	// pushWindow is the window of Settings.PushBudget and Settings.PushAlarm.
	pushWindow = time.Hour
	// maxPushDelay is the longest wait between two prompts.
	maxPushDelay = 10 * time.Minute
	// minApproval and maxApproval bound Settings.PushTimeout. From when they are made
	// to their end digits never live longer than maxApproval (NIST SP 800-63B-4, 3.1.3.2).
	minApproval = 10 * time.Second
	maxApproval = 10 * time.Minute
	// freeFailures is how many failures in a row never make anyone wait.
	freeFailures = 3
	// maxDelay is the longest wait between two attempts (NIST SP 800-63B-4, 3.2.2).
	maxDelay = time.Hour
	// telephonyTime bounds a request to the telephony provider.
	telephonyTime = 15 * time.Second
	// statusWait is how long Status waits: below the idle time-out of common proxies.
	statusWait = 25 * time.Second
	// sweepEvery is how often Run looks for transactions whose time is over.
	sweepEvery = time.Second
	// purgeEvery is how often Run deletes what has ended. Until txAfter a client can
	// ask how a transaction ended; until codesAfter who uses an old activation code
	// or join token hears that it has expired, not that it is unknown.
	purgeEvery = 10 * time.Minute
	txAfter    = time.Hour
	codesAfter = 7 * 24 * time.Hour
)

// Service implements API. It is safe for concurrent use.
type Service struct {
	Config
	seen    reported
	late    late // notifications that may yet be needed
	polls   polls
	refused refusals
	senders sync.WaitGroup // requests to the telephony provider and to push services under way
}

// New makes a Service.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Keys == nil || c.Hub == nil || c.Audience == "" || c.Now == nil || c.Random == nil || c.Log == nil {
		return nil, errors.New("make the login service: a part of its configuration is missing")
	}
	if c.After == nil {
		c.After = time.After
	}
	return &Service{Config: c}, nil
}

// newTxID makes an unguessable id: 128 bits in 26 letters and digits.
func (s *Service) newTxID() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(s.Random, b[:]); err != nil {
		return "", fmt.Errorf("make a transaction id: %w", err)
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]), nil
}

// person is who logs in and all that the decision is prepared from.
type person struct {
	client   Client
	name     string     // as the client gave it
	user     store.User // without ID: nobody has that name
	groups   []store.Group
	phones   []store.Phone
	tokens   []store.Token
	codes    bool // there are bypass codes
	settings store.Settings
	credits  store.Credits           // where telephony is on
	nextSMS  map[string]string       // the digit that the next code by SMS begins with, by phone
	remember store.RememberedDevices // where the client asks for it

	origin   origin
	endpoint policy.Trust
	version  int64 // of the policies that outcome rests on; 0: none that can be held
	outcome  policy.Outcome
}

func (p person) known() bool { return p.user.ID != "" }

func (p person) attempts() store.AttemptPolicy {
	limits := store.AttemptPolicy{
		Limit:    p.settings.LockoutThreshold,
		LockFor:  time.Duration(p.settings.LockoutExpireDuration) * time.Minute,
		Free:     max(freeFailures, p.settings.LockoutThreshold/2),
		Delay:    time.Duration(p.settings.AttemptDelay) * time.Second,
		MaxDelay: maxDelay,
	}
	if limits.LockFor > 0 { // to be slowed down is never worse than to be locked
		limits.MaxDelay = min(limits.MaxDelay, limits.LockFor)
	}
	return limits
}

// approvalTime is how long a push or a call can be answered.
func (p person) approvalTime() time.Duration {
	return min(max(time.Duration(p.settings.PushTimeout)*time.Second, minApproval), maxApproval)
}

func (p person) pushes() store.PushPolicy {
	return store.PushPolicy{
		Limit: p.settings.PushBudget, Window: pushWindow, Free: p.settings.PushFree,
		Delay: time.Duration(p.settings.PushDelay) * time.Second, MaxDelay: maxPushDelay,
	}
}

// nobody is an id that no user has.
const nobody = "DU"

// lookUp reads the person that a client names, and says what policy comes to.
func (s *Service) lookUp(r store.Reader, c Client, username, userID string, from origin) (person, error) {
	p := person{client: c, name: username, origin: from}
	if (username == "") == (userID == "") {
		return p, duoapi.NewError(duoapi.CodeMissingParameter, "username or user_id, one of them")
	}
	version, err := r.PolicyVersion() // before all that it is the version of
	if err != nil {
		return p, err
	}
	if p, err = s.find(r, p, userID); err != nil {
		return p, err
	}
	return p, s.evaluate(r, &p, version)
}

// find reads the person and what they have.
func (s *Service) find(r store.Reader, p person, userID string) (person, error) {
	var err error
	if p.settings, err = r.Settings(); err != nil {
		return p, err
	}
	if userID != "" {
		p.user, err = r.User(userID)
	} else {
		p.user, err = r.UserByName(CanonicalName(p.client.Integration.NamePolicy, p.name))
	}
	if errors.Is(err, store.ErrNotFound) {
		p.user, err = store.User{}, nil
	}
	if err != nil {
		return p, err
	}
	// For nobody the same is read as for somebody without a factor, so that the time
	// of the answer tells no more than the answer.
	id := p.user.ID
	if !p.known() {
		id = nobody
	}
	if p.groups, err = r.UserGroups(id); err != nil {
		return p, err
	}
	if s.Telephony != nil {
		if err := s.telephony(r, &p, id); err != nil {
			return p, err
		}
	}
	if p.phones, err = r.UserPhones(id); err != nil {
		return p, err
	}
	if p.tokens, err = r.UserTokens(id); err != nil {
		return p, err
	}
	if !s.enrolled(p) { // a phone that waits for its activation is nothing to log in with
		p.codes, err = r.HasBypassCode(id, s.Now())
		return p, err
	}
	return p, nil
}

// telephony reads what preauth says of calls and SMS.
func (s *Service) telephony(r store.Reader, p *person, id string) (err error) {
	if p.credits, err = r.Credits(); err != nil {
		return err
	}
	codes, err := r.SMSCodes(id, s.Now())
	p.nextSMS = map[string]string{}
	for _, c := range codes {
		if p.nextSMS[c.PhoneID] == "" {
			p.nextSMS[c.PhoneID] = c.Digit
		}
	}
	return err
}

// CanonicalName is the name under which the store looks for what a client
// calls a user. Names differ in more than case. NameSimple takes a domain
// before a backslash or after an at sign away.
func CanonicalName(how store.NamePolicy, name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if how != store.NameSimple {
		return name
	}
	if i := strings.LastIndexByte(name, '\\'); i >= 0 && i+1 < len(name) {
		name = name[i+1:]
	}
	if i := strings.IndexByte(name, '@'); i > 0 {
		name = name[:i]
	}
	return name
}

// enrolled reports whether the person has anything to log in with.
func (s *Service) enrolled(p person) bool {
	if len(p.tokens) > 0 || p.codes {
		return true
	}
	for _, phone := range p.phones {
		if phone.CanPush() || s.Telephony != nil && phone.Number != "" {
			return true
		}
	}
	return false
}

// verdict is a decision that needs no factor, or the end of one.
type verdict struct {
	result    string // allow, deny or enroll
	status    string
	message   string
	logResult string
	reason    string
	state     store.TxState
	detail    string // for the log alone
}

func (s *Service) lockExpired(p person) bool {
	lockFor := p.attempts().LockFor
	return lockFor > 0 && p.user.LockoutReason == store.LockoutFailures && !s.Now().Before(p.user.LockedAt.Add(lockFor))
}

func deny(status, message, reason string, p person) verdict {
	if help := p.settings.HelpdeskMessage; help != "" {
		message += " " + help
	}
	return verdict{
		result: duoapi.ResultDeny, status: status, message: message, logResult: audit.Denied,
		reason: reason, state: store.TxDenied,
	}
}

// event begins the event of an authentication of p.
func event(txID string, p person, ip, hostname string) store.Event {
	e := audit.New(txID, audit.Request{
		Integration: p.client.Integration, User: p.user, Groups: p.groups, Name: p.name, IP: ip, Hostname: hostname,
	})
	if p.endpoint != policy.TrustUnknown {
		e.TrustedEndpointStatus = string(p.endpoint)
	}
	return e
}

// conclude ends an authentication that never was pending: its event and, for a
// client that will ask for it, its transaction.
func (s *Service) conclude(w store.Writer, p person, e store.Event, v verdict, async bool) error {
	now := s.Now()
	if async {
		err := w.AddTransaction(store.Transaction{
			TxID: e.TxID, UserID: p.user.ID, IntegrationKey: p.client.Integration.Key, State: v.state,
			Status: v.status, StatusMsg: v.message, Created: now, Expires: now.Add(p.approvalTime()), DecidedAt: now,
		})
		if err != nil {
			return err
		}
	}
	if v.detail != "" {
		e.Detail = v.detail
	}
	return w.AddEvent(audit.Outcome(e, now, v.logResult, v.reason))
}

func (s *Service) logDecision(e store.Event, v verdict) {
	s.Log.Info("authentication", "txid", e.TxID, "user", e.User.Name, "integration", e.Application.Key, "factor", e.Factor,
		"result", v.logResult, "reason", v.reason, "ip", e.AccessDevice.IP)
}

// encodeEvent is the form of an event in a transaction.
func encodeEvent(e store.Event) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return b, nil
}

// eventOf is the event that a transaction began with.
func eventOf(tx store.Transaction) (store.Event, error) {
	var e store.Event
	if err := json.Unmarshal(tx.Event, &e); err != nil {
		return e, fmt.Errorf("decode the event of transaction %s: %w", tx.TxID, err)
	}
	return e, nil
}

func phoneDevice(p store.Phone) store.AuthDevice {
	name := p.Name
	if name == "" {
		name = factor.Mask(p.Number)
	}
	return store.AuthDevice{Key: p.ID, Name: name}
}

func (s *Service) wake(tx store.Transaction) {
	s.Hub.Wake(push.Transaction(tx.TxID))
	if tx.PhoneID != "" {
		s.Hub.Wake(push.Phone(tx.PhoneID))
	}
}
