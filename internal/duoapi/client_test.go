// SPDX-License-Identifier: Apache-2.0

package duoapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/signature"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const secret = "a test secret"

func clientOf(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{BaseURL: u, IntegrationKey: "DI1", Secret: []byte(secret), HTTP: srv.Client(), Now: func() time.Time { return at }}
}

// What the client sends must verify, and carry the parameters under the signature.
func TestClientSigns(t *testing.T) {
	check := func(t *testing.T, want signature.Scheme, wantParams string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			req, cred, err := signature.Parse(r, body)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := signature.Verify(req, cred, []byte(secret), []signature.Scheme{want}, at)
			if err != nil || got != want || cred.IntegrationKey != "DI1" {
				t.Errorf("scheme %v of %q: %v", got, cred.IntegrationKey, err)
			}
			if params := signature.EncodeParams(req.Params); params != wantParams {
				t.Errorf("parameters %q, want %q", params, wantParams)
			}
			_, _ = io.WriteString(w, `{"stat":"OK","response":{"time":5},"metadata":{"next_offset":100,"total_objects":101}}`)
		}
	}
	v2, v5 := signature.Scheme{Version: signature.V2}, signature.Scheme{Version: signature.V5}
	params := url.Values{"username": {"alice smith"}, "blank": {""}}
	var out struct{ Time int }
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		c := clientOf(t, check(t, v2, "blank=&username=alice%20smith"))
		meta, err := c.Call(t.Context(), method, "/auth/v2/x", params, &out)
		if err != nil || out.Time != 5 || meta.NextOffset == nil || *meta.NextOffset != 100 {
			t.Fatalf("%s: %v, %+v, %+v", method, err, out, meta)
		}
	}
	c := clientOf(t, check(t, v5, ""))
	if _, err := c.CallJSON(t.Context(), http.MethodPut, "/admin/v2/policies/update", map[string]any{"a": 1}, &out); err != nil {
		t.Fatal(err)
	}
}

func TestReadAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header string
		body   string
		code   int   // of the *Error wanted
		want   error // else
	}{
		"fail":                     {400, "", `{"stat":"FAIL","code":40002,"message":"Invalid request parameters","message_detail":"factor"}`, 40002, nil},
		"fail inside a 200":        {200, "", `{"stat":"FAIL","code":40301,"message":"no"}`, 40301, nil},
		"code contradicts status":  {401, "", `{"stat":"FAIL","code":50000,"message":"no"}`, 40100, nil},
		"too many":                 {429, "7", `{"stat":"FAIL","code":42901,"message":"slow"}`, 42901, nil},
		"refusal by a proxy":       {403, "", `<html>no</html>`, 40300, nil},
		"failure without envelope": {502, "", `<html>bad gateway</html>`, 0, ErrMalformed},
		"OK of a 500":              {500, "", `{"stat":"OK","response":{}}`, 0, ErrMalformed},
		"no stat":                  {200, "", `{"response":{}}`, 0, ErrMalformed},
		"wrong type":               {200, "", `{"stat":"OK","response":[]}`, 0, ErrMalformed},
		"empty":                    {200, "", ``, 0, ErrMalformed},
		"endless":                  {200, "", strings.Repeat(" ", maxAnswer+1), 0, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			client := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			var out struct{}
			_, err := client.Call(t.Context(), http.MethodGet, "/x", nil, &out)
			var answer *Error
			switch {
			case c.code != 0:
				if !errors.As(err, &answer) || answer.Code != c.code {
					t.Fatalf("error %v, want code %d", err, c.code)
				}
				if c.header != "" && answer.RetryAfter != 7 {
					t.Fatalf("retry after %d", answer.RetryAfter)
				}
			case !errors.Is(err, c.want) || errors.As(err, &answer):
				t.Fatalf("error %v, want %v", err, c.want)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		client := clientOf(t, nil)
		client.BaseURL = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
		if _, err := client.Call(t.Context(), http.MethodGet, "/x", nil, nil); !errors.Is(err, ErrTransport) {
			t.Fatalf("error %v, want ErrTransport", err)
		}
	})
}

func TestCodesAgreeWithStatus(t *testing.T) {
	for code, message := range Codes() {
		if e := NewError(code, ""); e.Status() != code/100 || message == "" {
			t.Errorf("code %d: status %d, message %q", code, e.Status(), message)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Sat, 21 Nov 2026 22:00:00 GMT"
	for name, c := range map[string]struct {
		header, value, date string
		want                int
	}{
		"seconds":              {"Retry-After", " 7 ", date, 7},
		"zero":                 {"Retry-After", "0", date, 0},
		"negative":             {"Retry-After", "-7", date, 0},
		"with a sign":          {"Retry-After", "+7", date, 0},
		"fraction":             {"Retry-After", "1.5", date, 0},
		"a year":               {"Retry-After", "31536000", date, maxRetryAfter},
		"more than any number": {"Retry-After", strings.Repeat("9", 100), date, maxRetryAfter},
		"a date":               {"Retry-After", "Sat, 21 Nov 2026 22:01:30 GMT", date, 90},
		"a date of RFC 850":    {"Retry-After", "Saturday, 21-Nov-26 22:01:30 GMT", date, 90},
		"a date far ahead":     {"Retry-After", "Sat, 21 Nov 2099 22:01:30 GMT", date, maxRetryAfter},
		"a date that is over":  {"Retry-After", "Sat, 21 Nov 2026 21:01:30 GMT", date, 0},
		"a date from no date":  {"Retry-After", "Sat, 21 Nov 2026 22:01:30 GMT", "", 0},
		"nonsense":             {"Retry-After", "soon", date, 0},
		"none":                 {"Retry-After", "", date, 0},
		"under Duo's name":     {"X-Retry-After", "7", date, 7},
	} {
		res := &http.Response{Header: http.Header{}}
		res.Header.Set(c.header, c.value)
		res.Header.Set("Date", c.date)
		if got := retryAfter(res); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-1", "99999999999999999999", "Sat, 21 Nov 2026 22:01:30 GMT", ""} {
		f.Add(seed, "Sat, 21 Nov 2026 22:00:00 GMT")
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		res := &http.Response{Header: http.Header{"Retry-After": {value}, "Date": {date}}}
		if n := retryAfter(res); n < 0 || n > maxRetryAfter {
			t.Fatalf("%d seconds", n)
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(200, []byte(`{"stat":"OK","response":{"result":"auth","prompt":{"factors":{"1":"push1"}}}}`))
	f.Add(400, []byte(`{"stat":"FAIL","code":40002,"message":"m"}`))
	f.Add(500, []byte(`garbage`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		res := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body)))}
		var out Preauth
		if _, err := ReadAnswer(res, &out); err == nil && status != http.StatusOK {
			t.Fatalf("status %d taken for success", status)
		}
	})
}
