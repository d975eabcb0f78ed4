// SPDX-License-Identifier: Apache-2.0

// Package verifiertest is a verifier for tests: Duo's Auth API over TLS and
// HTTP/2 on a loopback port, with real signatures, one user, and faults on
// demand. It is never part of a program.
package verifiertest

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/signature"
)

// The integration that the server knows.
const (
	IntegrationKey = "DITEST00000000000000"
	Secret         = "a secret key that only tests have"
)

// Call is a request that came in under a valid signature.
type Call struct {
	Path   string
	Params url.Values
}

// Server is the verifier. Its exported fields may be changed while it runs,
// under Lock.
type Server struct {
	sync.Mutex
	Preauth  duoapi.Preauth                                    // Result "" stands for auth
	Verified bool                                              // preauth hands out verification codes
	Life     int64                                             // of a verification code, seconds
	NoWay    bool                                              // pushes and calls cannot be delivered
	Codes    []string                                          // passcodes, each good once
	Answer   func(factor string, p url.Values) *duoapi.Auth    // decides before all else; nil: goes on
	Fault    func(w http.ResponseWriter, r *http.Request) bool // true: it has answered, or not

	URL    *url.URL
	CAFile string
	// Dial is the one way to a server in memory; nil: the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	http    *httptest.Server
	calls   []Call
	cancels []string
	waiting map[string]chan duoapi.Auth
	asked   map[string]bool // transactions of which the state was asked
	created chan string
	txids   int
}

// Phone is a device with every capability.
func Phone(id, name string) duoapi.Device {
	return duoapi.Device{Device: id, Type: "phone", DisplayName: name, Number: "XXX-XXX-1234",
		Capabilities: []string{duoapi.CapabilityAuto, duoapi.CapabilityPush, duoapi.CapabilityPhone, duoapi.CapabilitySMS}}
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	return start(t, nil)
}

// start serves on l; nil: on a port of the loopback.
func start(t testing.TB, l net.Listener) *Server {
	t.Helper()
	s := &Server{waiting: map[string]chan duoapi.Auth{}, asked: map[string]bool{}, created: make(chan string, 64), Life: 60}
	s.Preauth.Devices = []duoapi.Device{Phone("DPONE", "iPhone (XXX-XXX-1234)")}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if l != nil {
		_ = s.http.Listener.Close()
		s.http.Listener = l
	}
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.StartTLS()
	t.Cleanup(s.Close)
	u, err := url.Parse(s.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.URL = u
	s.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	if err := os.WriteFile(s.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// Close ends the server and every connection to it.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.Lock()
	for _, c := range s.waiting {
		close(c)
	}
	s.waiting = map[string]chan duoapi.Auth{}
	s.Unlock()
	s.http.Close()
}

// Started waits for the next transaction and returns its id.
func (s *Server) Started(t testing.TB) string {
	t.Helper()
	select {
	case txid := <-s.created:
		return txid
	case <-time.After(10 * time.Second):
		t.Fatal("no push or call was started")
		return ""
	}
}

// Finish ends a transaction.
func (s *Server) Finish(txid, result, status, message string) {
	s.Lock()
	defer s.Unlock()
	if c, ok := s.waiting[txid]; ok {
		c <- duoapi.Auth{Result: result, Status: status, StatusMsg: message}
	}
}

// Approve ends a transaction well.
func (s *Server) Approve(txid string) {
	s.Finish(txid, duoapi.ResultAllow, "allow", "Success. Logging you in...")
}

// Spoil sets Fault, under Lock.
func (s *Server) Spoil(fault func(w http.ResponseWriter, r *http.Request) bool) {
	s.Lock()
	defer s.Unlock()
	s.Fault = fault
}

// Calls returns what came in so far, at a path.
func (s *Server) Calls(path string) []Call {
	s.Lock()
	defer s.Unlock()
	return slices.DeleteFunc(slices.Clone(s.calls), func(c Call) bool { return c.Path != path })
}

// Cancelled returns the transactions that were withdrawn.
func (s *Server) Cancelled() []string {
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.cancels)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.Lock()
	fault := s.Fault
	s.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	body, _ := io.ReadAll(r.Body)
	req, cred, err := signature.Parse(r, body)
	if err == nil && cred.IntegrationKey != IntegrationKey {
		err = fmt.Errorf("integration key %q", cred.IntegrationKey)
	}
	if err == nil {
		_, err = signature.Verify(req, cred, []byte(Secret), req.Candidates(false, false), time.Now())
	}
	if r.URL.Path == "/auth/v2/ping" { // served unsigned, or whatever the date
		ok(w, map[string]int64{"time": time.Now().Unix()})
		return
	}
	if errors.Is(err, signature.ErrBadDate) {
		fail(w, duoapi.NewError(duoapi.CodeBadDate, ""))
		return
	}
	if err != nil {
		fail(w, duoapi.NewError(duoapi.CodeInvalidSignature, err.Error()))
		return
	}
	s.Lock()
	s.calls = append(s.calls, Call{r.URL.Path, req.Params})
	s.Unlock()
	switch path := r.URL.Path; {
	case path == "/auth/v2/preauth":
		s.preauth(w)
	case path == "/auth/v2/auth":
		s.auth(w, req.Params)
	case path == "/auth/v2/auth_status":
		s.status(w, r, req.Params.Get("txid"))
	case strings.HasPrefix(path, "/sallyport/v1/transactions/"):
		s.Lock()
		s.cancels = append(s.cancels, strings.Split(path, "/")[4])
		s.Unlock()
		ok(w, struct{}{})
	default:
		fail(w, duoapi.NewError(duoapi.CodeNotFound, ""))
	}
}

func (s *Server) preauth(w http.ResponseWriter) {
	s.Lock()
	defer s.Unlock()
	p := s.Preauth
	if p.Result == "" {
		p.Result, p.StatusMsg = duoapi.ResultAuth, "Account is active"
	}
	if s.Verified && p.Result == duoapi.ResultAuth {
		s.txids++
		p.TxID, p.VerificationCode, p.Expiration = fmt.Sprintf("tx%d", s.txids), "418302", s.Life
	}
	ok(w, p)
}

func (s *Server) auth(w http.ResponseWriter, p url.Values) {
	s.Lock()
	defer s.Unlock()
	if s.Answer != nil {
		if a := s.Answer(p.Get("factor"), p); a != nil {
			ok(w, a)
			return
		}
	}
	switch p.Get("factor") {
	case duoapi.FactorPasscode:
		if i := slices.Index(s.Codes, p.Get("passcode")); i >= 0 {
			s.Codes = slices.Delete(s.Codes, i, i+1)
			ok(w, duoapi.Auth{Result: duoapi.ResultAllow, Status: "allow", StatusMsg: "Success. Logging you in..."})
			return
		}
		ok(w, duoapi.Auth{Result: duoapi.ResultDeny, Status: "deny", StatusMsg: "Incorrect passcode. Please try again."})
	case duoapi.FactorSMS:
		ok(w, duoapi.Auth{Result: duoapi.ResultDeny, Status: "sent", StatusMsg: "New SMS passcodes sent."})
	default:
		txid := p.Get("txid")
		if txid == "" {
			s.txids++
			txid = fmt.Sprintf("tx%d", s.txids)
		}
		s.waiting[txid] = make(chan duoapi.Auth, 1)
		if s.NoWay {
			s.waiting[txid] <- duoapi.Auth{Result: duoapi.ResultDeny, Status: "push_failed", StatusMsg: undelivered}
		}
		s.created <- txid
		ok(w, duoapi.Auth{TxID: txid})
	}
}

// undelivered is what the verifier says of a push that nobody can get.
const undelivered = "The login request could not be sent to your device. Open Sallyport on it and try again, or choose another way."

func (s *Server) status(w http.ResponseWriter, r *http.Request, txid string) {
	s.Lock()
	c := s.waiting[txid]
	first := !s.asked[txid]
	s.asked[txid] = true
	s.Unlock()
	if c == nil {
		fail(w, duoapi.NewError(duoapi.CodeInvalidParameter, "txid"))
		return
	}
	if first && len(c) == 0 {
		ok(w, duoapi.Auth{Result: duoapi.ResultWaiting, Status: "pushed", StatusMsg: "Pushed a login request to your device..."})
		return
	}
	select {
	case a := <-c:
		if a.Result != "" {
			ok(w, a)
		}
	case <-r.Context().Done():
	}
}

func ok(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	write(w, http.StatusOK, duoapi.Envelope{Stat: "OK", Response: b})
}

func fail(w http.ResponseWriter, e *duoapi.Error) {
	write(w, e.Status(), duoapi.Envelope{Stat: "FAIL", Code: e.Code, Message: e.Message, MessageDetail: e.Detail})
}

func write(w http.ResponseWriter, status int, e duoapi.Envelope) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e)
}

// Refuse is a fault that answers every call but ping with an error of the API.
func Refuse(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/auth/v2/ping" {
			return false
		}
		fail(w, duoapi.NewError(code, ""))
		return true
	}
}

// Busy is a fault that answers the next calls, but for ping, with 429 and the
// Retry-After given, times of them; 0 stands for all.
func Busy(retryAfter string, times int) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	refuse, count := Refuse(duoapi.CodeTooManyRequests), 0
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/auth/v2/ping" || times > 0 && count >= times {
			return false
		}
		count++
		w.Header().Set("Retry-After", retryAfter)
		return refuse(w, r)
	}
}

// Garbage is a fault that answers with something that is no answer.
func Garbage(w http.ResponseWriter, _ *http.Request) bool {
	_, _ = io.WriteString(w, "<html>It works!</html>")
	return true
}

// Hang is a fault that keeps the caller waiting.
func Hang(_ http.ResponseWriter, r *http.Request) bool {
	<-r.Context().Done()
	return true
}
