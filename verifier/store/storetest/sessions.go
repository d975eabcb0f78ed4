// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// remembering is a policy that grants an hour to pushes and tokens.
var remembering = store.RememberedDevices{
	Enabled: true, MaxSeconds: 3600, UserChoice: true, Factors: []string{"duo_push", "hardware_token"},
}

// proof is the event of a success of DU1 at the host HO1.
func proof(txID string) store.Event {
	return store.Event{
		Time: now, TxID: txID, EventType: "authentication", Factor: "duo_push", Result: "success", Reason: "user_approved",
		User: store.EventUser{Key: "DU1", Name: "alice"}, Application: store.EventApp{Key: "DI1"},
		AuthDevice: store.AuthDevice{Key: "DP1"},
	}
}

// Session is a session of DU1 on HO1 for tests, proved by the event of that id.
func Session(id, txID string) store.Session {
	return store.Session{
		ID: id, UserID: "DU1", HostID: "HO1", Binding: []byte("binding"), Factor: "duo_push", DeviceID: "DP1", Generation: 1,
		TxID: txID, Service: "sshd", TTY: "pts/0", Created: now, Expires: now.Add(time.Hour),
	}
}

func use(at time.Time) store.SessionUse {
	return store.SessionUse{ID: "DS1", UserID: "DU1", HostID: "HO1", Binding: []byte("binding"), Now: at}
}

// rememberable adds the person, two hosts, the policy and a proof TX1.
func rememberable(t *testing.T, s store.Store) {
	t.Helper()
	person(t, s)
	update(t, s, func(w store.Writer) error {
		return errors.Join(
			w.AddHost(store.Host{ID: "HO1", Name: "db1", PublicKey: "K1", IntegrationKey: "DI1", Created: now}),
			w.AddHost(store.Host{ID: "HO2", Name: "db2", PublicKey: "K2", IntegrationKey: "DI2", Created: now}),
			w.AddIntegration(Integration("DI1")), w.AddUser(User("DU2", "bob")),
			w.SetRememberedDevices(remembering, now), w.AddEvent(proof("TX1")))
	})
}

func addSession(s store.Session) func(w store.Writer) (bool, error) {
	return func(w store.Writer) (bool, error) { return w.AddSession(s, now.Add(-time.Minute)) }
}

func testRememberedDevices(t *testing.T, s store.Store) {
	policy := func() (p store.RememberedDevices) {
		view(t, s, func(r store.Reader) (err error) {
			p, err = r.RememberedDevices()
			return err
		})
		return p
	}
	equal(t, "default", policy(), store.RememberedDevices{
		MaxSeconds: 28800, UserChoice: true, Factors: []string{"duo_push", "phone_call", "sms_passcode", "hardware_token"},
	})
	update(t, s, func(w store.Writer) error { return w.SetRememberedDevices(remembering, now) })
	equal(t, "set", policy(), remembering)
}

// Each premise of AddSession, one broken at a time.
func testSessionFromProof(t *testing.T, s store.Store) {
	rememberable(t, s)
	undo := errors.New("undo")
	for _, c := range []struct {
		name   string
		change func(w store.Writer, s *store.Session, e *store.Event) error
		want   bool
	}{
		{"nothing", nil, true},
		{"no event", func(_ store.Writer, s *store.Session, _ *store.Event) error { s.TxID = "TX9"; return nil }, false},
		{"another's event", func(_ store.Writer, _ *store.Session, e *store.Event) error { e.User.Key = "DU2"; return nil }, false},
		{"another user than the event's", func(_ store.Writer, s *store.Session, _ *store.Event) error {
			s.UserID, s.DeviceID = "DU2", ""
			return nil
		}, false},
		{"event of another host", func(_ store.Writer, _ *store.Session, e *store.Event) error { e.Application.Key = "DI2"; return nil }, false},
		{"another host than the event's", func(_ store.Writer, s *store.Session, _ *store.Event) error { s.HostID = "HO2"; return nil }, false},
		{"a denial", func(_ store.Writer, _ *store.Session, e *store.Event) error { e.Result = "denied"; return nil }, false},
		{"an enrolment", func(_ store.Writer, _ *store.Session, e *store.Event) error { e.EventType = "enrollment"; return nil }, false},
		{"an old event", func(_ store.Writer, _ *store.Session, e *store.Event) error {
			e.Time = now.Add(-time.Minute)
			return nil
		}, false},
		{"another factor", func(_ store.Writer, _ *store.Session, e *store.Event) error { e.Factor = "phone_call"; return nil }, false},
		{"a factor out of the policy", func(_ store.Writer, s *store.Session, e *store.Event) error {
			s.Factor, e.Factor = "bypass_code", "bypass_code"
			return nil
		}, false},
		{"a use of a session", func(_ store.Writer, s *store.Session, e *store.Event) error {
			s.Factor, e.Factor = "remembered_device", "remembered_device"
			return nil
		}, false},
		{"longer than the policy", func(_ store.Writer, s *store.Session, _ *store.Event) error {
			s.Expires = now.Add(time.Hour + time.Second)
			return nil
		}, false},
		{"policy off", func(w store.Writer, _ *store.Session, _ *store.Event) error {
			return w.SetRememberedDevices(store.RememberedDevices{MaxSeconds: 3600, Factors: remembering.Factors}, now)
		}, false},
		{"user disabled", func(w store.Writer, _ *store.Session, _ *store.Event) error {
			return w.SetUserStatus("DU1", store.Disabled, "", now)
		}, false},
		{"user in bypass", func(w store.Writer, _ *store.Session, _ *store.Event) error {
			return w.SetUserStatus("DU1", store.Bypass, "", now)
		}, false},
		{"host revoked", func(w store.Writer, _ *store.Session, _ *store.Event) error { return w.RevokeHost("HO1", now) }, false},
		{"phone taken away", func(w store.Writer, _ *store.Session, _ *store.Event) error { return w.DetachPhone("DU1", "DP1") }, false},
		{"phone of another generation", func(_ store.Writer, s *store.Session, _ *store.Event) error { s.Generation = 2; return nil }, false},
		{"the token", func(_ store.Writer, s *store.Session, e *store.Event) error {
			s.DeviceID, s.Generation, s.Factor, e.Factor = "DHt", 0, "hardware_token", "hardware_token"
			return nil
		}, true},
	} {
		x, e := Session("DS1", "TX2"), proof("TX2")
		err := s.Update(context.Background(), func(w store.Writer) error {
			if c.change != nil {
				if err := c.change(w, &x, &e); err != nil {
					return err
				}
			}
			if err := w.AddEvent(e); err != nil {
				return err
			}
			got, err := addSession(x)(w)
			if got != c.want {
				t.Errorf("%s: won %v, want %v", c.name, got, c.want)
			}
			return errors.Join(err, undo)
		})
		if !errors.Is(err, undo) || errors.Is(err, store.ErrConflict) {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	equal(t, "sessions of one proof", race(t, s, func(w store.Writer, i int) (bool, error) {
		x := Session("DS1", "TX1")
		x.ID += string(rune('a' + i%26))
		x.ID += string(rune('a' + i/26))
		return addSession(x)(w)
	}), int64(1))
	view(t, s, func(r store.Reader) error {
		_, err := r.SessionByTx("TX1")
		return err
	})
}

// Each premise of UseSession, one broken at a time.
func testSessionPremises(t *testing.T, s store.Store) {
	rememberable(t, s)
	if !decide(t, s, addSession(Session("DS1", "TX1"))) {
		t.Fatal("the session was not added")
	}
	undo := errors.New("undo")
	shorter := remembering
	shorter.MaxSeconds = 60
	other := remembering
	other.Factors = []string{"hardware_token", "duo_pushed"}
	for _, c := range []struct {
		name   string
		change func(w store.Writer) error
		use    func(u *store.SessionUse)
		want   bool
	}{
		{"nothing", nil, nil, true},
		{"at its end", nil, func(u *store.SessionUse) { u.Now = now.Add(time.Hour) }, false},
		{"before its end", nil, func(u *store.SessionUse) { u.Now = now.Add(time.Hour - time.Microsecond) }, true},
		{"another binding", nil, func(u *store.SessionUse) { u.Binding = []byte("binding2") }, false},
		{"no binding", nil, func(u *store.SessionUse) { u.Binding = nil }, false},
		{"another user", nil, func(u *store.SessionUse) { u.UserID = "DU2" }, false},
		{"another host", nil, func(u *store.SessionUse) { u.HostID = "HO2" }, false},
		{"another session", nil, func(u *store.SessionUse) { u.ID = "DS2" }, false},
		{"ended", func(w store.Writer) error {
			_, err := w.EndSessions(store.SessionEnd{ID: "DS1", Why: store.EndedAdmin, Now: now})
			return err
		}, nil, false},
		{"user disabled", func(w store.Writer) error { return w.SetUserStatus("DU1", store.Disabled, "", now) }, nil, false},
		{"user in bypass", func(w store.Writer) error { return w.SetUserStatus("DU1", store.Bypass, "", now) }, nil, false},
		{"user locked", func(w store.Writer) error { _, err := w.LockUser("DU1", store.LockoutFraud, now); return err }, nil, false},
		{"user deleted", func(w store.Writer) error { return w.DeleteUser("DU1") }, nil, false},
		{"host revoked", func(w store.Writer) error { return w.RevokeHost("HO1", now) }, nil, false},
		{"policy off", func(w store.Writer) error {
			return w.SetRememberedDevices(store.RememberedDevices{MaxSeconds: 3600, Factors: remembering.Factors}, now)
		}, nil, false},
		{"policy without the factor", func(w store.Writer) error { return w.SetRememberedDevices(other, now) }, nil, false},
		{"policy shortened, within", func(w store.Writer) error { return w.SetRememberedDevices(shorter, now) },
			func(u *store.SessionUse) { u.Now = now.Add(59 * time.Second) }, true},
		{"policy shortened, after", func(w store.Writer) error { return w.SetRememberedDevices(shorter, now) },
			func(u *store.SessionUse) { u.Now = now.Add(time.Minute) }, false},
		{"policy shortened and lengthened, after", func(w store.Writer) error {
			return errors.Join(w.SetRememberedDevices(shorter, now), w.SetRememberedDevices(remembering, now))
		}, func(u *store.SessionUse) { u.Now = now.Add(time.Minute) }, false},
		{"policy off and on", func(w store.Writer) error {
			off := remembering
			off.Enabled = false
			return errors.Join(w.SetRememberedDevices(off, now), w.SetRememberedDevices(remembering, now))
		}, nil, false},
		{"phone taken away", func(w store.Writer) error { return w.DetachPhone("DU1", "DP1") }, nil, false},
		{"phone deleted", func(w store.Writer) error { return w.DeletePhone("DP1") }, nil, false},
		{"phone deactivated", func(w store.Writer) error { return w.DeactivatePhone("DP1") }, nil, false},
		{"phone renamed", func(w store.Writer) error { p := Phone("DP1"); p.Name = "x"; return w.SetPhone(p) }, nil, true},
		{"another token taken away", func(w store.Writer) error { return w.DetachToken("DU1", "DHt") }, nil, true},
	} {
		err := s.Update(context.Background(), func(w store.Writer) error {
			if c.change != nil {
				if err := c.change(w); err != nil {
					return err
				}
			}
			u := use(now)
			if c.use != nil {
				c.use(&u)
			}
			got, err := w.UseSession(u)
			if got != c.want {
				t.Errorf("%s: won %v, want %v", c.name, got, c.want)
			}
			return errors.Join(err, undo)
		})
		if !errors.Is(err, undo) {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	equal(t, "uses", race(t, s, func(w store.Writer, _ int) (bool, error) { return w.UseSession(use(now.Add(time.Minute))) }), int64(racers))
	view(t, s, func(r store.Reader) error {
		x, err := r.Session("DS1")
		want := Session("DS1", "TX1")
		want.Uses, want.LastUsed = racers, now.Add(time.Minute)
		equal(t, "session", x, want)
		return err
	})
}

func testSessionEnds(t *testing.T, s store.Store) {
	rememberable(t, s)
	live := func() int {
		var n int
		view(t, s, func(r store.Reader) (err error) {
			_, n, err = r.Sessions(store.SessionFilter{LiveAt: now}, store.Page{})
			return err
		})
		return n
	}
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.Session("DS9"); return err })
	for _, c := range []struct {
		name string
		end  store.SessionEnd
		want int
	}{
		{"by id", store.SessionEnd{ID: "DS1"}, 1},
		{"by id of another user", store.SessionEnd{ID: "DS1", UserID: "DU2"}, 0},
		{"by user", store.SessionEnd{UserID: "DU1"}, 2},
		{"by another user", store.SessionEnd{UserID: "DU2"}, 0},
		{"by login", store.SessionEnd{HostID: "HO1", Binding: []byte("binding")}, 1},
		{"by login of another host", store.SessionEnd{HostID: "HO2", Binding: []byte("binding")}, 0},
		{"when they have expired", store.SessionEnd{UserID: "DU1", Now: now.Add(time.Hour)}, 0},
	} {
		undo := errors.New("undo")
		err := s.Update(context.Background(), func(w store.Writer) error {
			x := Session("DS2", "TX2")
			x.Binding = []byte("another")
			first, err := addSession(Session("DS1", "TX1"))(w)
			err2 := w.AddEvent(proof("TX2"))
			second, err3 := addSession(x)(w)
			equal(t, "added", []bool{first, second}, []bool{true, true})
			c.end.Why = store.EndedLogout
			if c.end.Now.IsZero() {
				c.end.Now = now
			}
			n, err4 := w.EndSessions(c.end)
			equal(t, c.name, n, c.want)
			again, err5 := w.EndSessions(c.end)
			equal(t, c.name+", again", again, 0)
			return errors.Join(err, err2, err3, err4, err5, undo)
		})
		if !errors.Is(err, undo) {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	equal(t, "live", live(), 0)
	for _, e := range []store.SessionEnd{{Now: now}, {HostID: "HO1", Now: now}, {Binding: []byte("binding"), Now: now}} {
		if err := s.Update(context.Background(), func(w store.Writer) error { _, err := w.EndSessions(e); return err }); err == nil {
			t.Errorf("%+v ended everybody's sessions", e)
		}
	}
}

func testSessionsListed(t *testing.T, s store.Store) {
	rememberable(t, s)
	second := Session("DS2", "TX2")
	second.Created, second.Expires = now.Add(time.Second), now.Add(time.Minute)
	update(t, s, func(w store.Writer) error {
		_, err := addSession(Session("DS1", "TX1"))(w)
		err2 := w.AddEvent(proof("TX2"))
		_, err3 := addSession(second)(w)
		return errors.Join(err, err2, err3)
	})
	for _, c := range []struct {
		filter store.SessionFilter
		want   []string
	}{
		{store.SessionFilter{}, []string{"DS2", "DS1"}},
		{store.SessionFilter{UserID: "DU1", HostID: "HO1", LiveAt: now}, []string{"DS2", "DS1"}},
		{store.SessionFilter{LiveAt: now.Add(time.Minute)}, []string{"DS1"}},
		{store.SessionFilter{UserID: "DU2"}, nil},
		{store.SessionFilter{HostID: "HO2"}, nil},
	} {
		var got []string
		view(t, s, func(r store.Reader) error {
			list, n, err := r.Sessions(c.filter, store.Page{})
			for _, x := range list {
				got = append(got, x.ID)
			}
			equal(t, "total", n, len(got))
			return err
		})
		equal(t, "sessions", got, c.want)
	}
	update(t, s, func(w store.Writer) error { return w.Purge(now.Add(time.Minute)) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.Session("DS2"); return err })
	update(t, s, func(w store.Writer) error { _, err := w.Session("DS1"); return err })
}
