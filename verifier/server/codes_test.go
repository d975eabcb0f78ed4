// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bufio"
	"cmp"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// notSent are the codes that a verifier never sends, so that clients may tell
// from them that something else answered.
var notSent = map[int]bool{duoapi.CodeServerError: true}

// TestEveryCode brings about each error code on a server of its own.
func TestEveryCode(t *testing.T) {
	for want := range duoapi.Codes() {
		if notSent[want] {
			continue
		}
		cause, ok := causes[want]
		if !ok {
			t.Errorf("code %d: no test brings it about", want)
			continue
		}
		t.Run(strconv.Itoa(want), func(t *testing.T) {
			t.Parallel()
			if err := cause(newSite(t)); code(err) != want {
				t.Errorf("got %v", err)
			}
		})
	}
}

var causes = map[int]func(*site) error{
	duoapi.CodeCacheExists: func(s *site) error {
		f := newFleet(s, store.OSLinux, store.ManagementAll)
		f.create(nil)
		return f.do("POST", "", nil, nil)
	},
	duoapi.CodeCacheActive: func(s *site) error {
		f := newFleet(s, store.OSLinux, store.ManagementAll)
		return f.do("DELETE", "/"+f.create(map[string]string{"active": "1"}), nil, nil)
	},
	duoapi.CodeMissingParameter: func(s *site) error { return s.call(s.auth, "POST", "/auth/v2/preauth", nil, nil) },
	duoapi.CodeInvalidParameter: func(s *site) error {
		return s.call(s.auth, "POST", "/auth/v2/auth", map[string]string{"username": "a", "factor": "smoke"}, nil)
	},
	duoapi.CodeConflict: func(s *site) error {
		s.user("alice")
		return s.call(s.admin, "POST", "/admin/v1/users", map[string]string{"username": "bob", "alias1": "Alice"}, nil)
	},
	duoapi.CodeContentType: func(s *site) error {
		s.admin.HTTP.Transport = setType{s.admin.HTTP.Transport, "text/plain"}
		_, err := s.admin.CallJSON(s.t.Context(), "POST", "/admin/v1/users", map[string]string{"username": "x"}, nil)
		return err
	},
	duoapi.CodeCannotDecide: func(s *site) error {
		s.store.views.Store(true)
		return s.call(s.auth, "GET", "/auth/v2/check", nil, nil)
	},
	duoapi.CodeNotSent: func(s *site) error {
		phone := s.newMobile()
		s.dir.Texts = texter{duoapi.NewError(duoapi.CodeNotSent, "no line")}
		return s.call(s.admin, "POST", "/admin/v1/phones/"+phone+"/send_sms_passcodes", nil, nil)
	},
	duoapi.CodeMissingCredentials: func(s *site) error { return s.open("GET", "/auth/v2/check", "", nil, nil) },
	duoapi.CodeInvalidKey: func(s *site) error {
		s.auth.IntegrationKey = "DIXXXXXXXXXXXXXXXXXX"
		return s.call(s.auth, "GET", "/auth/v2/check", nil, nil)
	},
	duoapi.CodeInvalidSignature: func(s *site) error {
		s.auth.Secret = []byte("wrong")
		return s.call(s.auth, "GET", "/auth/v2/check", nil, nil)
	},
	duoapi.CodeMissingDate: func(s *site) error {
		return s.open("GET", "/auth/v2/check", "", http.Header{
			"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(s.auth.IntegrationKey+":00"))},
		}, nil)
	},
	duoapi.CodeBadDate: func(s *site) error {
		s.auth.Now = func() time.Time { return time.Now().Add(-time.Hour) }
		return s.call(s.auth, "GET", "/auth/v2/check", nil, nil)
	},
	duoapi.CodeInvalidProof: func(s *site) error {
		key := s.newKey()
		return s.proved(key, "HOAAAAAAAAAAAAAAAAAA", "GET", "/sallyport/v1/hosts/self", "", nil, nil)
	},
	duoapi.CodeProofElsewhere: func(s *site) error {
		key, phone := s.authenticator(s.user("alice"))
		return s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions", "", nil, func(r *http.Request) { r.URL.RawQuery = "wait=1" })
	},
	duoapi.CodeForbidden: func(s *site) error { return s.call(s.auth, "GET", "/admin/v1/users", nil, nil) },
	duoapi.CodeNetwork: func(s *site) error {
		made := s.integration(store.AuthAPI, directory.IntegrationChange{Networks: &[]string{"192.0.2.0/24"}})
		return s.call(s.as(made), "GET", "/auth/v2/check", nil, nil)
	},
	duoapi.CodeGrant: func(s *site) error {
		made := s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantReadLog: true}})
		return s.call(s.as(made), "GET", "/admin/v1/users", nil, nil)
	},
	duoapi.CodeReplay: func(s *site) error {
		sent := time.Now() // the bytes are the same only within a second
		s.admin.Now = func() time.Time { return sent }
		s.admin.Nonce = func() string { return "the same" }
		s.must(s.call(s.admin, "POST", "/admin/v1/users", params{"username": "a"}, nil))
		return s.call(s.admin, "POST", "/admin/v1/users", params{"username": "a"}, nil)
	},
	duoapi.CodeJoinUnknown: func(s *site) error {
		return s.join(s.newKey(), "sj1."+strings.Repeat("A", 32)+".", "db1", nil)
	},
	duoapi.CodeJoinUsed: func(s *site) error {
		token := s.joinToken("")
		s.must(s.join(s.newKey(), token, "db1", nil))
		return s.join(s.newKey(), token, "db2", nil)
	},
	duoapi.CodeJoinExpired: func(s *site) error {
		token := s.joinToken("")
		s.clock.Add(2 * time.Hour)
		return s.join(s.newKey(), token, "db1", nil)
	},
	duoapi.CodeJoinKeyID: func(s *site) error {
		key := s.newKey()
		return s.proved(key, "HOAAAAAAAAAAAAAAAAAA", "POST", "/sallyport/v1/hosts/join",
			joinBody(s, key, s.joinToken(""), "db1"), nil, nil)
	},
	duoapi.CodeJoinKeyKnown: func(s *site) error {
		key := s.newKey()
		s.must(s.join(key, s.joinToken(""), "db1", nil))
		return s.join(key, s.joinToken(""), "db1", nil)
	},
	duoapi.CodeJoinName: func(s *site) error { return s.join(s.newKey(), s.joinToken("db1"), "db2", nil) },
	duoapi.CodeActivateUnknown: func(s *site) error {
		return s.activate(s.newKey(), "sa1."+strings.Repeat("A", 32)+".", nil)
	},
	duoapi.CodeActivateUsed: func(s *site) error {
		activation := s.activation()
		s.must(s.activate(s.newKey(), activation, nil))
		return s.activate(s.newKey(), activation, nil)
	},
	duoapi.CodeActivateExpired: func(s *site) error {
		activation := s.activation()
		s.clock.Add(2 * time.Hour)
		return s.activate(s.newKey(), activation, nil)
	},
	duoapi.CodeActivateKeyID: func(s *site) error {
		key := s.newKey()
		public, err := keyproof.EncodeKey(&key.PublicKey)
		s.must(err)
		return s.proved(key, "AKAAAAAAAAAAAAAAAAAA", "POST", "/sallyport/v1/authenticator/activate",
			toJSON(s.t, map[string]string{"code": s.activation(), "public_key": public}), nil, nil)
	},
	duoapi.CodeTxUnknown: func(s *site) error {
		p := s.push()
		other, id := s.authenticator(s.user("mallory"))
		p.key, p.phone = other, id
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeTxAnswered: func(s *site) error {
		p := s.push()
		s.must(p.answer(s, login.Deny, ""))
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeTxExpired: func(s *site) error {
		p := s.push()
		s.clock.Add(2 * time.Minute)
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeTxCanceled: func(s *site) error {
		p := s.push()
		var out struct{ Canceled bool }
		s.must(s.call(s.auth, "POST", "/sallyport/v1/transactions/"+p.txID+"/cancel", nil, &out))
		if !out.Canceled {
			s.t.Error("a waiting transaction was not canceled")
		}
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeTxDigits: func(s *site) error { return s.push().answer(s, login.Approve, "000000x") },
	duoapi.CodeTxAnswer: func(s *site) error {
		p := s.push()
		return p.answer(s, "allow", p.code)
	},
	duoapi.CodeAnswerContext: func(s *site) error {
		p := s.push()
		p.context += " "
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeMailOff: func(s *site) error {
		return s.call(s.admin, "POST", "/sallyport/v1/admin/enrollment_links", params{"username": "a", "create": "1", "send": "1"}, nil)
	},
	duoapi.CodeMayNotEnroll: func(s *site) error {
		s.must(s.call(s.admin, "POST", "/admin/v1/users", params{"username": "a", "status": "disabled"}, nil))
		return s.call(s.admin, "POST", "/sallyport/v1/admin/enrollment_links", params{"username": "a"}, nil)
	},
	duoapi.CodeAnswerSignature: func(s *site) error {
		p := s.push()
		p.signer = s.newKey()
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeAnswerTransaction: func(s *site) error {
		p := s.push()
		p.signedTx = "another"
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeAnswerAudience: func(s *site) error {
		p := s.push()
		p.audience = "https://other.example"
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeAnswerTime: func(s *site) error {
		p := s.push()
		p.age = time.Hour
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeVerificationNone: func(s *site) error {
		p := s.push()
		s.verifies(p.agent(s))
		return p.answer(s, login.Approve, p.code)
	},
	duoapi.CodeVerificationWrong: func(s *site) error {
		c := s.agent(s.user("alice"))
		s.verifies(c)
		_, err := c.Move(s.t.Context(), agentapi.Verification{Verification: []byte(`{}`)})
		return err
	},
	duoapi.CodeVerificationOff: func(s *site) error {
		_, err := s.agent(s.user("alice")).VerificationChallenge(s.t.Context())
		return err
	},
	duoapi.CodeDeviceUnknown: func(s *site) error {
		_, err := s.agent(s.user("alice")).RenameDevice(s.t.Context(), s.agent(s.user("mallory")).KeyID, "mine")
		return err
	},
	duoapi.CodePushOff: func(s *site) error { return s.subscribes(subscription()) },
	duoapi.CodePushEndpoint: func(s *site) error {
		bad := subscription()
		bad["endpoint"] = "https://127.0.0.1/x"
		return newSiteWith(s.t, withWebPush).subscribes(bad)
	},
	duoapi.CodePushKeys: func(s *site) error {
		bad := subscription()
		bad["auth"] = "AAAA"
		return newSiteWith(s.t, withWebPush).subscribes(bad)
	},
	duoapi.CodePushUnsubscribed: func(s *site) error {
		s = newSiteWith(s.t, withWebPush)
		key, phone := s.authenticator(s.user("alice"))
		return s.proved(key, phone, "POST", pushPath+"/test", "{}", nil, nil)
	},
	duoapi.CodePushTooOften: func(s *site) error {
		s = newSiteWith(s.t, withWebPush)
		key, phone := s.authenticator(s.user("alice"))
		for range 2 {
			if err := s.proved(key, phone, "POST", pushPath+"/test", "{}", nil, nil); code(err) != duoapi.CodePushUnsubscribed {
				return err
			}
		}
		return nil
	},
	duoapi.CodeTxDigitsMissing: func(s *site) error { return s.push().answer(s, login.Approve, "") },
	duoapi.CodeSessionRefused: func(s *site) error {
		_, err := s.joinedHost("db1").creates("TXTXTXTXTX", binding(1))
		return err
	},
	duoapi.CodeOfflineOff: func(s *site) error {
		h := s.host("db1")
		s.must(s.call(s.admin, "POST", "/admin/v1/settings", map[string]string{"offline_enabled": "false"}, nil))
		_, err := h.keys("TX")
		return err
	},
	duoapi.CodeOfflineLogin: func(s *site) error {
		_, err := s.host("db1").keys("TX")
		return err
	},
	duoapi.CodeNotFound: func(s *site) error { return s.call(s.admin, "GET", "/admin/v1/users/DU", nil, nil) },
	duoapi.CodeMethodNotAllowed: func(s *site) error {
		return s.call(s.admin, "DELETE", "/admin/v1/settings", nil, nil)
	},
	duoapi.CodeTooLarge: func(s *site) error {
		return s.call(s.admin, "POST", "/admin/v1/users", map[string]string{"username": "a", "notes": strings.Repeat("n", 2<<20)}, nil)
	},
	duoapi.CodeTooManyRequests: func(s *site) error {
		var err error
		for range 100 {
			err = s.open("GET", "/auth/v2/check", "", nil, nil)
		}
		// Who can sign is not held up by the others at that address.
		s.must(s.call(s.auth, "GET", "/auth/v2/check", nil, nil))
		return err
	},
}

type setType struct {
	http.RoundTripper
	kind string
}

func (t setType) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Content-Type", t.kind)
	return t.RoundTripper.RoundTrip(r)
}

func (s *site) newKey() *ecdsa.PrivateKey {
	s.t.Helper()
	key, err := keyproof.GenerateKey()
	s.must(err)
	return key
}

func (s *site) joinToken(name string) string {
	s.t.Helper()
	var out struct{ Token string }
	s.must(s.call(s.admin, "POST", "/sallyport/v1/admin/host_tokens", map[string]string{"name": name}, &out))
	return out.Token
}

func joinBody(s *site, key *ecdsa.PrivateKey, token, name string) string {
	public, err := keyproof.EncodeKey(&key.PublicKey)
	s.must(err)
	return toJSON(s.t, map[string]string{"token": token, "name": name, "public_key": public})
}

func (s *site) join(key *ecdsa.PrivateKey, token, name string, out any) error {
	s.t.Helper()
	kid, err := keyproof.ID("HO", &key.PublicKey)
	s.must(err)
	return s.proved(key, kid, "POST", "/sallyport/v1/hosts/join", joinBody(s, key, token, name), out, nil)
}

func (s *site) activation() string {
	s.t.Helper()
	phone, err := s.dir.CreatePhone(s.t.Context(), directory.Actor{Name: "test"}, s.user("alice"), directory.PhoneChange{})
	s.must(err)
	act, err := s.dir.ActivatePhone(s.t.Context(), directory.Actor{Name: "test"}, phone.ID, time.Hour)
	s.must(err)
	return act.Code
}

// pending is a verified push that waits for its answer.
type pending struct {
	txID, phone, code, context string
	key                        *ecdsa.PrivateKey

	// What the answer is signed with, where it is not as it should be.
	signer             *ecdsa.PrivateKey
	signedTx, audience string
	age                time.Duration
}

func (s *site) push() pending {
	s.t.Helper()
	key, phone := s.authenticator(s.user("alice"))
	var pre duoapi.Preauth
	s.must(s.call(s.auth, "POST", "/auth/v2/preauth", map[string]string{
		"username": "alice", "client_supports_verified_push": "1",
	}, &pre))
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", map[string]string{
		"username": "alice", "factor": "push", "device": phone, "txid": pre.TxID, "async": "1",
	}, nil))
	var list struct {
		Transactions []struct {
			TxID, Context string
			Verified      bool
		}
	}
	s.must(s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions?wait=5", "", &list, nil))
	if len(list.Transactions) != 1 || list.Transactions[0].TxID != pre.TxID || !list.Transactions[0].Verified {
		s.t.Fatalf("transactions %+v, want %s, verified", list, pre.TxID)
	}
	if strings.Contains(list.Transactions[0].Context, pre.VerificationCode) {
		s.t.Error("the authenticator is told the digits that the person must type")
	}
	return pending{txID: pre.TxID, phone: phone, code: pre.VerificationCode, context: list.Transactions[0].Context, key: key}
}

func (p pending) answer(s *site, decision, digits string) error {
	s.t.Helper()
	return p.answerInto(s, decision, digits, nil)
}

func (p pending) answerInto(s *site, decision, digits string, out any) error {
	s.t.Helper()
	sum := sha256.Sum256([]byte(p.context))
	signer := cmp.Or(p.signer, p.key)
	jws, err := keyproof.Sign(signer, []byte(toJSON(s.t, map[string]any{
		"v": 1, "aud": cmp.Or(p.audience, s.base.String()), "txid": cmp.Or(p.signedTx, p.txID),
		"context":  base64.RawURLEncoding.EncodeToString(sum[:]),
		"decision": decision, "digits": digits, "iat": s.clock.Now().Add(-p.age).Unix(),
	})))
	s.must(err)
	return s.proved(p.key, p.phone, "POST", "/sallyport/v1/authenticator/transactions/"+p.txID,
		toJSON(s.t, map[string]string{"answer": jws}), out, nil)
}

// TestCodesAreDocumented compares docs/reference/errors.md with the codes.
func TestCodesAreDocumented(t *testing.T) {
	f, err := os.Open("../../docs/reference/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	row := regexp.MustCompile(`^\| (\d{5}) \| ([^|]+) \| ([^|]+) \|`)
	documented := map[int]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		m := row.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[n] = strings.TrimSpace(m[2])
		if strings.TrimSpace(m[3]) == "" {
			t.Errorf("code %d: nothing says when it comes", n)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for n, message := range duoapi.Codes() {
		if documented[n] != message {
			t.Errorf("code %d %q is documented as %q", n, message, documented[n])
		}
		delete(documented, n)
	}
	for n := range documented {
		t.Errorf("code %d is documented but not there", n)
	}
}
