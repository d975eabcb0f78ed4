// SPDX-License-Identifier: Apache-2.0

package agentapi

import "testing"

func TestParseContext(t *testing.T) {
	c, err := ParseContext(`{"v":1,"txid":"T","username":"alice","pushinfo":{"a":"b"},"later":true}`, "T")
	if err != nil || c.Username != "alice" || c.PushInfo["a"] != "b" {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, text := range []string{"", "[]", `{"v":2,"txid":"T"}`, `{"v":1,"txid":"U"}`, `{"v":1}`, `{"v":1,"txid":"T","pushinfo":[]}`} {
		if _, err := ParseContext(text, "T"); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzParseContext(f *testing.F) {
	f.Add(`{"v":1,"txid":"T","username":"alice"}`)
	f.Add(`{"v":1,"txid":"U"}`)
	f.Add(`{"v":1,"txid":"T","pushinfo":{"a":null}}`)
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseContext(text, "T"); err == nil && (c.TxID != "T" || c.Version != 1) {
			t.Fatalf("%q was taken for T: %+v", text, c)
		}
	})
}

func TestValidDigits(t *testing.T) {
	for s, want := range map[string]bool{"123456": true, "000000": true, "12345": true, "123": true, "12": false, "1234567": false, "12345a": false, "": false, "١٢٣٤٥٦": false, "123456\n": false} {
		if ValidDigits(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
