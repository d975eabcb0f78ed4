// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// notifier is a push service of which the test says what it does.
type notifier struct {
	mu      sync.Mutex
	phones  []string // that were notified
	outcome push.Outcome
	err     error
	begin   func()        // before it answers; nil: nothing
	hold    chan struct{} // it answers once this is closed; nil: at once
}

func (n *notifier) Notify(ctx context.Context, phoneID string) (push.Outcome, error) {
	n.mu.Lock()
	n.phones = append(n.phones, phoneID)
	outcome, err, begin, hold := n.outcome, n.err, n.begin, n.hold
	n.mu.Unlock()
	if begin != nil {
		begin()
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return push.Failed, ctx.Err()
		}
	}
	return outcome, err
}

func (n *notifier) notified() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.phones)
}

// notifying gives the world a push service.
func (w *world) notifying(outcome push.Outcome, err error) *notifier {
	n := &notifier{outcome: outcome, err: err}
	w.Notifier = n
	w.Cleanup(w.senders.Wait)
	return n
}

// TestDelivery: what becomes of a notification decides whether the push waits, for
// asynchronous and synchronous calls alike, and only a push that nobody can get ends.
func TestDelivery(t *testing.T) {
	for _, c := range []struct {
		name     string
		outcome  push.Outcome
		err      error
		listens  bool          // from before the push
		comes    bool          // connects while it is being notified
		polled   time.Duration // so long before the push; 0: never
		notified bool
		waits    bool
	}{
		{name: "taken", outcome: push.Taken, notified: true, waits: true},
		{name: "no service named", outcome: push.Unsubscribed, notified: true, waits: true},
		{name: "gone", outcome: push.Gone, notified: true},
		{name: "failed", outcome: push.Failed, err: errors.New("429"), notified: true},
		{name: "listens", outcome: push.Failed, listens: true, waits: true},
		{name: "between two polls", outcome: push.Gone, polled: pollGap - time.Second, notified: true, waits: true},
		{name: "polls no more", outcome: push.Gone, polled: pollGap, notified: true},
		{name: "comes while the service fails", outcome: push.Failed, comes: true, notified: true, waits: true},
	} {
		for _, async := range []bool{true, false} {
			t.Run(c.name+map[bool]string{true: ", asynchronous", false: ", synchronous"}[async], func(t *testing.T) {
				w := newWorld(t)
				n := w.notifying(c.outcome, c.err)
				if c.listens {
					_, stop := w.hub.Wait(push.Phone("DP1"))
					defer stop()
				}
				if c.polled > 0 {
					w.Polled("DP1")
					w.clock.Add(c.polled)
				}
				if c.comes {
					n.begin = func() { _, _ = w.hub.Wait(push.Phone("DP1")) }
				}
				pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
				request := AuthRequest{Username: "alice", Factor: duoapi.FactorPush, TxID: pre.TxID, Async: async}
				done := make(chan duoapi.Auth, 1)
				go func() {
					out, err := w.Auth(context.Background(), w.client, request)
					if err != nil {
						t.Error(err)
					}
					done <- out
				}()
				if async {
					if out := <-done; out.TxID != pre.TxID {
						t.Fatalf("%+v", out)
					}
					done <- w.status(pre.TxID) // known by now
				}
				if c.waits {
					if async {
						w.want(<-done, "waiting", "pushed")
					}
					for c.notified && len(n.notified()) == 0 { // who asks for the list listens
						time.Sleep(time.Millisecond)
					}
					if _, err := w.Pending(context.Background(), "DP1", time.Minute); err != nil {
						t.Fatal(err)
					}
					if _, err := w.answer(pre.TxID, Approve, pre.VerificationCode, nil); err != nil {
						t.Fatal(err)
					}
					if async {
						done <- w.status(pre.TxID)
					}
					w.want(<-done, "allow", "allow")
				} else {
					out := <-done
					w.want(out, "deny", "push_failed")
					if !strings.Contains(out.StatusMsg, "Open Sallyport") {
						t.Errorf("message %q", out.StatusMsg)
					}
					w.wantEvent(0, "denied", "error", "duo_push")
					if e := w.events()[0]; !strings.HasSuffix(e.Detail, "notification "+string(c.outcome)) {
						t.Errorf("detail %q", e.Detail)
					}
					if u := w.user(); u.Failures != 0 {
						t.Errorf("%d failures", u.Failures)
					}
					_, err := w.answer(pre.TxID, Approve, pre.VerificationCode, nil)
					wantCode(t, err, duoapi.CodeTxAnswered)
				}
				if got := n.notified(); c.notified != slices.Equal(got, []string{"DP1"}) || !c.notified && len(got) > 0 {
					t.Fatalf("notified %v", got)
				}
			})
		}
	}
}

// TestSlowPushService: auth does not wait for it longer than two seconds, and a
// failure that is known later ends the push then.
func TestSlowPushService(t *testing.T) {
	w := newWorld(t)
	n := w.notifying(push.Gone, nil)
	n.hold = make(chan struct{})
	asked := make(chan struct{})
	n.begin = func() { close(asked) }
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	done := make(chan duoapi.Auth, 1)
	go func() {
		out, err := w.Auth(context.Background(), w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorPush, TxID: pre.TxID, Async: true})
		if err != nil {
			t.Error(err)
		}
		done <- out
	}()
	<-asked
	select {
	case out := <-done:
		t.Fatalf("auth did not wait: %+v", out)
	default:
	}
	for answered := false; !answered; {
		w.clock.Add(100 * time.Millisecond)
		select {
		case <-done:
			answered = true
		case <-time.After(time.Millisecond):
		}
	}
	w.want(w.status(pre.TxID), "waiting", "pushed")
	close(n.hold)
	w.want(w.status(pre.TxID), "deny", "push_failed")
}

// TestNotifiedLate: an authenticator whose connection only looks alive is notified
// ten seconds later, but not of what has been answered.
func TestNotifiedLate(t *testing.T) {
	w := newWorld(t)
	n := w.notifying(push.Taken, nil)
	listen := func() {
		_, _ = w.hub.Wait(push.Phone("DP1"))
	}
	listen()
	answered, digits := w.startPush()
	listen()
	open, _ := w.startPush()
	if _, err := w.answer(answered, Approve, digits, nil); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(lateAfter - time.Microsecond)
	w.notifyLate(context.Background())
	w.senders.Wait()
	if got := n.notified(); len(got) != 0 {
		t.Fatalf("notified %v before its time", got)
	}
	w.clock.Add(time.Microsecond)
	for range 2 {
		w.notifyLate(context.Background())
		w.senders.Wait()
	}
	if got := n.notified(); !slices.Equal(got, []string{"DP1"}) {
		t.Fatalf("notified %v, want once", got)
	}
	w.want(w.status(open), "waiting", "pushed")
}

// TestOneOfSeveralAuthenticators: only the one that is asked is notified, and only
// whether that one listens counts.
func TestOneOfSeveralAuthenticators(t *testing.T) {
	w := newWorld(t)
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := keyproof.EncodeKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	w.update(func(x store.Writer) error {
		return errors.Join(
			x.AddPhone(store.Phone{ID: "DP2", Name: "tablet", Type: "mobile", PublicKey: public, Generation: 1, Created: w.clock.Now()}),
			x.AttachPhone("DU1", "DP2"))
	})
	n := w.notifying(push.Gone, nil)
	_, stop := w.hub.Wait(push.Phone("DP1"))
	defer stop()
	send := func(device string) duoapi.Auth {
		pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
		w.auth(AuthRequest{Factor: duoapi.FactorPush, Device: device, TxID: pre.TxID, Async: true})
		return w.status(pre.TxID)
	}
	w.want(send("DP2"), "deny", "push_failed")
	w.want(send("DP1"), "waiting", "pushed")
	if got := n.notified(); !slices.Equal(got, []string{"DP2"}) {
		t.Fatalf("notified %v", got)
	}
}

// TestVerificationPushIsDelivered: the help desk's push reaches who is not connected.
func TestVerificationPushIsDelivered(t *testing.T) {
	w := newWorld(t)
	desk := Client{Integration: store.Integration{Key: "DIadmin", Name: "help desk", Type: store.AdminAPI}}
	w.update(func(x store.Writer) error { return x.AddIntegration(desk.Integration) })
	n := w.notifying(push.Failed, errors.New("503"))
	id, _, err := w.VerificationPush(context.Background(), desk, "DU1", "DP1")
	if err != nil {
		t.Fatal(err)
	}
	if got := n.notified(); !slices.Equal(got, []string{"DP1"}) {
		t.Fatalf("notified %v", got)
	}
	if got, err := w.VerificationResult(context.Background(), desk, "DU1", id); err != nil || got != VerificationDeny {
		t.Fatalf("%s, %v", got, err)
	}
}
