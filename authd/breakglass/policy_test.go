// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/authd/rules"
)

func TestPolicyKeepsOrderAndServices(t *testing.T) {
	path := filepath.Join(t.TempDir(), PolicyFile)
	list := []rules.Rule{
		{Name: "owner", Action: rules.Require, Users: []string{"root"}},
		{Name: "closed", Action: rules.Deny},
	}
	services := map[string]ServicePolicy{
		DefaultService: {Person: PersonUser, FirstFactor: FirstFactorStack, FirstFactorSSH: FirstFactorSSH},
		"sudo-many":    {Person: PersonInvoking, FirstFactor: FirstFactorStack, FirstFactorSSH: FirstFactorSSH},
	}
	if err := NewPolicy(services, list, noon).Write(path); err != nil {
		t.Fatal(err)
	}
	p, err := ReadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]rules.Action{"root": rules.Require, "alice": rules.Deny} {
		if d := p.Decide(t.Context(), rules.Facts{User: user, Service: "sshd"}); d.Action != want {
			t.Errorf("%s: %s, want %s", user, d.Action, want)
		}
	}
	if p.Service("sudo-many").Person != PersonInvoking || p.Service("other").Person != PersonUser {
		t.Errorf("services: %+v", p.Services)
	}
	// The next one replaces it as a whole.
	if err := NewPolicy(services, nil, noon).Write(path); err != nil {
		t.Fatal(err)
	}
	if p, err = ReadPolicy(path); err != nil || p.Decide(t.Context(), rules.Facts{User: "alice"}).Action != rules.Require {
		t.Errorf("%+v, %v", p, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A rule of any kind that package rules has, or will have, comes back as it was.
func TestPolicyKeepsEveryConditionOfARule(t *testing.T) {
	var r rules.Rule
	fill(reflect.ValueOf(&r).Elem())
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back rules.Rule
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, back) {
		t.Errorf("%+v\ncomes back as\n%+v", r, back)
	}
}

// fill gives every field that others can set a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(noon))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	default:
		panic("a kind of field that the copy of the rules has not met: " + v.Type().String())
	}
}

func TestBuiltinServices(t *testing.T) {
	for service, want := range map[string]ServicePolicy{
		"sshd":  {PersonUser, FirstFactorSSH, FirstFactorSSH},
		"su":    {PersonCaller, FirstFactorStack, FirstFactorSSH},
		"sudo":  {PersonInvoking, FirstFactorStack, FirstFactorSSH},
		"login": {PersonUser, FirstFactorStack, FirstFactorSSH},
	} {
		if got := (*Policy)(nil).Service(service); got != want {
			t.Errorf("%s: %+v, want %+v", service, got, want)
		}
	}
}

func TestPolicyThatIsNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadPolicy(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"garbage":        "\x00\x01",
		"empty":          "",
		"another":        `{"version":2}`,
		"unknown action": `{"version":1,"rules":[{"Action":"perhaps"}]}`,
		"half a service": `{"version":1,"services":{"sshd":{}}}`,
	} {
		path := filepath.Join(dir, "policy")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := ReadPolicy(path); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"version":1,"services":{"default":{"person":"user","first_factor":"stack","first_factor_ssh":"ssh"}},"rules":[{"Name":"n","Action":"deny","Users":["a"]}]}`))
	f.Add([]byte(`{"version":1,"rules":[null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePolicy(data)
		if err == nil {
			p.Decide(t.Context(), rules.Facts{User: "root", Service: "sshd"})
			p.Service("sshd")
		}
	})
}

func FuzzParseProcess(f *testing.F) {
	f.Add("1:2:3:4")
	f.Add("-1:+2: 3:4x")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProcess(text)
		if err == nil && FormatProcess(p) != text {
			t.Errorf("%q is %+v", text, p)
		}
		if err != nil && p != (process.Process{}) {
			t.Errorf("%q: %+v and %v", text, p, err)
		}
	})
}
