// SPDX-License-Identifier: Apache-2.0

package offlinecode

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The values of RFC 4226, appendix D, table 2, to 8 digits.
func TestCodesOfTheRFC(t *testing.T) {
	for n, truncated := range []int64{1284755224, 1094287082, 137359152, 1726969429, 1640338314, 868254676, 1918287922, 82162583, 673399871, 645520489} {
		code, err := Code([]byte("12345678901234567890"), int64(n))
		if err != nil {
			t.Fatal(err)
		}
		want := []byte("00000000")
		for i, v := len(want)-1, truncated; i >= 0; i, v = i-1, v/10 {
			want[i] = byte('0' + v%10)
		}
		if code != string(want) {
			t.Errorf("code %d is %s, want %s", n, code, want)
		}
	}
}

var id = ID{HostID: "HOAAAABBBBCCCCDDDDEE", UserID: "DU1", PhoneID: "DP1", Generation: 2, Edition: 1}

// Every part of the id makes another key, and no two splits of the same text the same one.
func TestKeysDiffer(t *testing.T) {
	root := bytes.Repeat([]byte{7}, Size)
	ids := []ID{
		id,
		{"HOAAAABBBBCCCCDDDDEF", "DU1", "DP1", 2, 1}, {id.HostID, "DU2", "DP1", 2, 1}, {id.HostID, "DU1", "DP2", 2, 1},
		{id.HostID, "DU1", "DP1", 3, 1}, {id.HostID, "DU1", "DP1", 2, 2}, {id.HostID, "DU1D", "P1", 2, 1},
		{id.HostID, "DU1", "DP1", 21, 1}, {id.HostID, "DU1", "DP12", 1, 1},
	}
	seen := map[string]ID{}
	for _, i := range ids {
		key, err := Key(root, i)
		if err != nil || len(key) != Size {
			t.Fatalf("%x, %v", key, err)
		}
		if other, there := seen[string(key)]; there {
			t.Errorf("%+v and %+v have one key", i, other)
		}
		seen[string(key)] = i
	}
	if _, err := Key(root[1:], id); err == nil {
		t.Error("a short root was taken")
	}
}

// The derivation is part of the wire: hosts and authenticators keep keys for days.
func TestKeyStays(t *testing.T) {
	key, err := Key(bytes.Repeat([]byte{7}, Size), id)
	if err != nil || hex.EncodeToString(key) != "b4e554e4ad76a7b2e67eba7df276bf3d0eb81e5f1a84e141badc6d6879eba35e" {
		t.Errorf("got %x, %v", key, err)
	}
}

func TestFind(t *testing.T) {
	key := bytes.Repeat([]byte{1}, Size)
	code, err := Code(key, 25)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to int64
		found    bool
	}{{0, 25, false}, {0, 26, true}, {25, 45, true}, {26, 46, false}, {-5, 30, true}} {
		n, found, err := Find(key, code, c.from, c.to)
		if err != nil || found != c.found || found && n != 25 {
			t.Errorf("[%d, %d): %d, %t, %v", c.from, c.to, n, found, err)
		}
	}
}

func TestLabel(t *testing.T) {
	for _, c := range [][3]string{
		{"db1.example.org", "HOK7QXAAAA", "db1-K7QX"}, {"db1", "HOK7QXAAAA", "db1-K7QX"}, {"db1", "HOK", "db1-K"},
	} {
		if got := Label(c[0], c[1]); got != c[2] {
			t.Errorf("got %s, want %s", got, c[2])
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"12345678", " 1234 5678 ", "1234-5678", "１２３４５６７８", "1234567", "123456789", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		code, ok := Normalise(s)
		if !ok {
			return
		}
		if len(code) != Digits {
			t.Fatalf("%q became %q", s, code)
		}
		if again, ok := Normalise(code[:4] + " " + code[4:]); !ok || again != code {
			t.Fatalf("%q became %q", code, again)
		}
	})
}
