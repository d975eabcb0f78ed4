// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const registered = "/admin/v1/registered_devices"

func (s *site) registeredDevice() string {
	s.t.Helper()
	d := store.RegisteredDevice{ID: unique("DR"), UserID: s.user(unique("user")), Created: s.clock.Now(), Name: "laptop", OS: "Linux"}
	s.must(s.store.Update(s.t.Context(), func(w store.Writer) error { return w.AddRegisteredDevice(d) }))
	return d.ID
}

func (s *site) endpoint() string {
	s.t.Helper()
	e := store.Endpoint{ID: unique("EP"), Username: "alice", LastSeen: s.clock.Now(), OSFamily: "Linux"}
	s.must(s.store.Update(s.t.Context(), func(w store.Writer) error { return w.PutEndpoint(e) }))
	return e.ID
}

// picture is base64 of a PNG of that size.
func picture(width, height int) string {
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(out.Bytes())
}

func init() {
	wildcard("epkey", (*site).endpoint)
	wildcard("registered_device_id", (*site).registeredDevice)
	page := []parameter{optional("limit", number(10)), optional("offset", number(0))}
	document("GET /admin/v1/endpoints", page...)
	document("GET /admin/v1/endpoints/{epkey}")
	document("GET "+registered, page...)
	document("GET "+registered+"/blocked", page...)
	document("GET " + registered + "/{registered_device_id}")
	document("GET " + registered + "/blocked/{registered_device_id}")
	document("DELETE " + registered + "/{registered_device_id}")
	document("POST " + registered + "/blocked/{registered_device_id}")
	document("DELETE " + registered + "/blocked/{registered_device_id}")
	document("GET /admin/v2/passport/config")
	groups := kind{good: func(s *site) string { return s.newGroup() }, wrong: []string{"DGnone", `[1]`, `["a"`}}
	document("POST /admin/v2/passport/config", optional("enabled_status", oneOf("disabled", "enabled", "enabled-for-groups")),
		optional("enabled_groups", groups), optional("disabled_groups", groups),
		optional("custom_supported_browsers", jsonObject(`{"macos":[{"team_id":"X"}],"windows":[]}`)))
	document("GET /admin/v1/logo")
	document("POST /admin/v1/logo", required("logo", kind{good: always(picture(16, 16)), wrong: []string{"no base64!", "AAAA"}, strict: true}))
	document("DELETE /admin/v1/logo")
}

func TestEndpoints(t *testing.T) {
	s := newSite(t)
	id := s.endpoint()
	var list []map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/endpoints", nil, &list))
	if len(list) != 1 || list[0]["epkey"] != id || list[0]["os_family"] != "Linux" || list[0]["username"] != "alice" || toJSON(t, list[0]["browsers"]) != "[]" {
		t.Errorf("list %v", list)
	}
	var one map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/endpoints/"+id, nil, &one))
	if one["epkey"] != id || one["firewall_status"] != "unknown" {
		t.Errorf("one %v", one)
	}
}

func TestRegisteredDevices(t *testing.T) {
	s := newSite(t)
	a, b := s.registeredDevice(), s.registeredDevice()
	ids := func(path string) string {
		var list []map[string]any
		s.must(s.call(s.admin, "GET", path, nil, &list))
		var out []string
		for _, d := range list {
			out = append(out, d["registered_device_id"].(string))
		}
		return strings.Join(out, " ")
	}
	if got := ids(registered); got != a+" "+b {
		t.Errorf("all: %s", got)
	}
	if err := s.call(s.admin, "GET", registered+"/blocked/"+b, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("one that is not blocked: %v", err)
	}
	var one map[string]any
	s.must(s.call(s.admin, "POST", registered+"/blocked/"+b, nil, &one))
	if one["blocked"] != true || one["user"] == nil || ids(registered+"/blocked") != b {
		t.Errorf("blocked: %v", one)
	}
	s.must(s.call(s.admin, "DELETE", registered+"/blocked/"+b, nil, &one))
	if one["blocked"] != false || ids(registered+"/blocked") != "" {
		t.Errorf("unblocked: %v", one)
	}
	s.must(s.call(s.admin, "DELETE", registered+"/"+a, nil, nil))
	if err := s.call(s.admin, "DELETE", registered+"/"+a, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("twice: %v", err)
	}
	if got := ids(registered); got != b {
		t.Errorf("left: %s", got)
	}
}

// Passport for everyone is the policy for remembered logins; the rest is kept.
func TestPassportConfig(t *testing.T) {
	s := newSite(t)
	const path, policy = "/admin/v2/passport/config", "/sallyport/v1/admin/policy/remembered_devices"
	group := s.newGroup()
	var got, remembered map[string]any
	check := func(status string, on bool) {
		t.Helper()
		s.must(s.call(s.admin, "GET", path, nil, &got))
		s.must(s.call(s.admin, "GET", policy, nil, &remembered))
		if got["enabled_status"] != status || remembered["enabled"] != on {
			t.Errorf("config %v, policy %v; want %s, %v", got, remembered, status, on)
		}
	}
	check("disabled", false)
	s.must(s.call(s.admin, "POST", path, params{"enabled_status": "enabled"}, nil))
	check("enabled", true)
	s.must(s.call(s.admin, "POST", policy, params{"enabled": "0"}, nil))
	check("disabled", false)
	s.must(s.call(s.admin, "POST", path, params{
		"enabled_status": "enabled-for-groups", "enabled_groups": group, "custom_supported_browsers": `{"macos":[{"team_id":"T1"}]}`,
	}, nil))
	check("enabled-for-groups", false)
	if toJSON(t, got["enabled_groups"]) != `["`+group+`"]` || toJSON(t, got["custom_supported_browsers"]) != `{"macos":[{"team_id":"T1"}],"windows":[]}` {
		t.Errorf("config %v", got)
	}
}

func TestLogoOfAnAdministrator(t *testing.T) {
	s := newSiteWith(t, func(c *server.Config, _ *login.Config) { c.Logo = []byte("the file's") })
	shown := func() string { return s.signed(s.auth, "GET", "/auth/v2/logo", "", "").Body.String() }
	if err := s.call(s.admin, "GET", "/admin/v1/logo", nil, nil); code(err) != duoapi.CodeNotFound || shown() != "the file's" {
		t.Errorf("none was set: %v, %q", err, shown())
	}
	trailed, err := base64.StdEncoding.DecodeString(picture(40, 30))
	s.must(err)
	trailed = append(trailed, "<script>"...)
	s.must(s.call(s.admin, "POST", "/admin/v1/logo", params{"logo": base64.StdEncoding.EncodeToString(trailed)}, nil))
	w := s.signed(s.admin, "GET", "/admin/v1/logo", "", "")
	c, err := png.DecodeConfig(bytes.NewReader(w.Body.Bytes()))
	if err != nil || c.Width != 40 || c.Height != 30 || w.Header().Get("Content-Type") != "image/png" || strings.Contains(w.Body.String(), "<script>") {
		t.Errorf("logo %v, %v, %q", c, err, w.Body)
	}
	if shown() != w.Body.String() {
		t.Error("the Auth API shows another logo")
	}
	for name, logo := range map[string]string{
		"wide": picture(501, 100), "small": picture(11, 100), "text": base64.StdEncoding.EncodeToString([]byte("GIF89a")),
		"cut": base64.StdEncoding.EncodeToString(trailed[:40]), "large": strings.Repeat("A", 150_000),
	} {
		if err := s.call(s.admin, "POST", "/admin/v1/logo", params{"logo": logo}, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.must(s.call(s.admin, "DELETE", "/admin/v1/logo", nil, nil))
	if shown() != "the file's" {
		t.Errorf("after it was deleted: %q", shown())
	}
}
