// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/test/pushservice"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/webpush"
)

const pushPath = "/sallyport/v1/authenticator/push_subscription"

// withWebPush turns Web Push on.
func withWebPush(c *server.Config, _ *login.Config) {
	service, err := webpush.New(webpush.Config{
		Store: c.Store, Keys: c.Keys, Settings: config.WebPush{Enabled: true}, Base: c.Base, Now: c.Now, Random: rand.Reader, Log: c.Log,
	})
	if err != nil {
		panic(err)
	}
	c.WebPush = service
}

// TestLoginByWebPush: a login notifies the phone that is not connected, which then
// finds the request; once the push service does not know the phone any more, the
// login ends at once and says so.
func TestLoginByWebPush(t *testing.T) {
	service := pushservice.Start(t)
	s := newSiteWith(t, func(c *server.Config, l *login.Config) {
		made, err := webpush.New(webpush.Config{
			Store: c.Store, Keys: c.Keys, Base: c.Base, Now: c.Now, Random: rand.Reader, Log: c.Log, Settings: config.WebPush{
				Enabled: true, CAFile: service.CAFile, AllowNetworks: []string{"127.0.0.0/8"}, AllowPorts: []int{service.Port},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(made.Close)
		c.WebPush, l.Notifier = made, made
	})
	key, phone := s.authenticator(s.user("alice"))
	var self struct {
		WebPushKey string `json:"web_push_key"`
	}
	s.must(s.proved(key, phone, "GET", "/sallyport/v1/authenticator/self", "", &self, nil))
	ua, err := service.Subscribe(self.WebPushKey)
	s.must(err)
	s.must(s.proved(key, phone, "POST", pushPath, toJSON(t, map[string]string{
		"endpoint": ua.Endpoint, "p256dh": ua.P256dh, "auth": ua.Auth,
	}), nil, nil))
	begin := func() (txID string) {
		var pre duoapi.Preauth
		s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": "alice", "client_supports_verified_push": "1"}, &pre))
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{
			"username": "alice", "factor": "push", "device": phone, "txid": pre.TxID, "async": "1",
		}, nil))
		return pre.TxID
	}
	first := begin()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, plain, err := ua.Receive(ctx.Done())
	s.must(err)
	if string(plain) != `{"v":1,"t":"login"}` || m.TTL <= 0 || m.TTL > 10*time.Minute {
		t.Errorf("%s %+v", plain, m)
	}
	for _, secret := range []string{first, "alice", phone} {
		for _, r := range service.Requests() {
			if strings.Contains(toJSON(t, r), secret) || bytes.Contains(plain, []byte(secret)) {
				t.Errorf("the push service learns %q", secret)
			}
		}
	}
	var list struct{ Transactions []struct{ TxID string } }
	s.must(s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions", "", &list, nil))
	if len(list.Transactions) != 1 || list.Transactions[0].TxID != first {
		t.Errorf("%+v, want %s", list, first)
	}
	ua.Unsubscribe()
	second := begin()
	var status duoapi.Auth
	for status.Result = duoapi.ResultWaiting; status.Result == duoapi.ResultWaiting; { // on a busy machine the push service answers late
		s.must(s.call(s.auth, "GET", "/auth/v2/auth_status", params{"txid": second}, &status))
	}
	if status.Result != duoapi.ResultDeny || status.StatusMsg == "" {
		t.Errorf("after the subscription has ended: %+v", status)
	}
	if err := s.proved(key, phone, "POST", pushPath+"/test", "{}", nil, nil); code(err) != duoapi.CodePushUnsubscribed {
		t.Errorf("the subscription is still there: %v", err)
	}
}

// subscription is a good one, with the key of RFC 8291, appendix A.
func subscription() map[string]string {
	return map[string]string{
		"endpoint": "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV",
		"p256dh":   "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
		"auth":     "BTBZMqHH6r4Tts7J_aSIgg",
	}
}

// subscribes is what a new authenticator gets that subscribes.
func (s *site) subscribes(sub map[string]string) error {
	s.t.Helper()
	key, phone := s.authenticator(s.user("alice"))
	return s.proved(key, phone, "POST", pushPath, toJSON(s.t, sub), nil, nil)
}

// One that subscribes again and again waits, as with every other call.
func TestPushSubscriptionsArePaced(t *testing.T) {
	s := newSiteWith(t, withWebPush)
	for _, path := range []string{pushPath, pushPath + "/remove", pushPath + "/test"} {
		key, phone := s.authenticator(s.user("of " + path))
		var last int
		for n := 0; n < 200 && last != duoapi.CodeTooManyRequests; n++ {
			last = code(s.proved(key, phone, "POST", path, "{}", nil, nil))
		}
		if last != duoapi.CodeTooManyRequests {
			t.Errorf("%s: the last of many is answered with %d", path, last)
		}
	}
}

// A subscription is kept sealed, for the phone whose key asked, until the phone
// ends it.
func TestPushSubscription(t *testing.T) {
	s := newSiteWith(t, withWebPush)
	key, phone := s.authenticator(s.user("alice"))
	kept := func() (sub store.PushSubscription, err error) {
		err = s.store.View(t.Context(), func(r store.Reader) (err error) { sub, err = r.PushSubscription(phone); return err })
		return sub, err
	}
	var out struct{ Subscribed bool }
	s.must(s.proved(key, phone, "POST", pushPath, toJSON(t, subscription()), &out, nil))
	sub, err := kept()
	s.must(err)
	if !out.Subscribed || sub.PhoneID != phone {
		t.Errorf("%+v, kept %+v", out, sub)
	}
	out.Subscribed = true
	s.must(s.proved(key, phone, "POST", pushPath+"/remove", "{}", &out, nil))
	if _, err := kept(); err == nil || out.Subscribed {
		t.Errorf("after the removal: %+v, %v", out, err)
	}
	s.must(s.proved(key, phone, "POST", pushPath+"/remove", "{}", &out, nil)) // to remove what is gone is no error
}

// Each member of the body is needed, and no other is taken.
func TestPushSubscriptionBody(t *testing.T) {
	s := newSiteWith(t, withWebPush)
	key, phone := s.authenticator(s.user("alice"))
	for member := range subscription() {
		less := maps.Clone(subscription())
		delete(less, member)
		if err := s.proved(key, phone, "POST", pushPath, toJSON(t, less), nil, nil); code(err) != duoapi.CodeMissingParameter {
			t.Errorf("without %s: %v", member, err)
		}
	}
	for name, c := range map[string]struct {
		path, member, value string
		code                int
	}{
		"unknown":      {pushPath, "expirationTime", "1", duoapi.CodeInvalidParameter},
		"remove":       {pushPath + "/remove", "x", "1", duoapi.CodeInvalidParameter},
		"test":         {pushPath + "/test", "x", "1", duoapi.CodeInvalidParameter},
		"http":         {pushPath, "endpoint", "http://push.example.net/x", duoapi.CodePushEndpoint},
		"short key":    {pushPath, "p256dh", base64.RawURLEncoding.EncodeToString(make([]byte, 64)), duoapi.CodePushKeys},
		"not on curve": {pushPath, "p256dh", base64.RawURLEncoding.EncodeToString(append([]byte{4}, make([]byte, 64)...)), duoapi.CodePushKeys},
		"compressed":   {pushPath, "p256dh", base64.RawURLEncoding.EncodeToString(append([]byte{2}, make([]byte, 32)...)), duoapi.CodePushKeys},
		"not base64":   {pushPath, "auth", "AAAAAAAAAAAAAAAAAAAA*A", duoapi.CodePushKeys},
		"long auth":    {pushPath, "auth", base64.RawURLEncoding.EncodeToString(make([]byte, 17)), duoapi.CodePushKeys},
	} {
		body := maps.Clone(subscription())
		if c.path != pushPath {
			clear(body)
		}
		body[c.member] = c.value
		if err := s.proved(key, phone, "POST", c.path, toJSON(t, body), nil, nil); code(err) != c.code {
			t.Errorf("%s: %v, want %d", name, err, c.code)
		}
	}
	// Without a proof nothing happens.
	if err := s.open("POST", pushPath, toJSON(t, subscription()), nil, nil); code(err) != duoapi.CodeMissingCredentials {
		t.Errorf("without a proof: %v", err)
	}
	other := s.newKey()
	if err := s.proved(other, phone, "POST", pushPath, toJSON(t, subscription()), nil, nil); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("with the proof of another: %v", err)
	}
}
