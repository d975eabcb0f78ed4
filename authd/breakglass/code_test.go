// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func aCode(t testing.TB) Code {
	t.Helper()
	c, err := newCode(rand.Reader, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCodeIsReadAsPeopleType(t *testing.T) {
	c := aCode(t)
	text := c.Reveal()
	if len(text) != len("bg-XXXX-XXXX-XXXX-XXXX-XXXX-XXXX") {
		t.Errorf("the code has the form %q", text)
	}
	for name, typed := range map[string]string{
		"as printed":      text,
		"lower case":      strings.ToLower(text),
		"without hyphens": strings.ReplaceAll(text, "-", ""),
		"with blanks":     " " + strings.ReplaceAll(text, "-", " ") + "\n",
		"without prefix":  text[3:],
		"letters":         "bg-" + strings.NewReplacer("0", "o", "1", "l").Replace(text[3:]),
		"other letters":   "BG-" + strings.NewReplacer("0", "O", "1", "I").Replace(text[3:]),
	} {
		got, err := ParseCode(typed)
		if err != nil || got != c {
			t.Errorf("%s: %q is %v, %v", name, typed, got, err)
		}
		if !LooksLike(typed) {
			t.Errorf("%s: %q does not look like a code", name, typed)
		}
	}
}

func TestSlipsAreTold(t *testing.T) {
	missed, tries := 0, 0
	for range 20 {
		plain := strings.ReplaceAll(aCode(t).Reveal()[3:], "-", "")
		for i := range plain {
			for _, r := range alphabet {
				typed := plain[:i] + string(r) + plain[i+1:]
				if typed == plain {
					continue
				}
				tries++
				_, err := ParseCode(typed)
				if err == nil {
					missed++
				} else if !errors.Is(err, ErrTypo) {
					t.Fatalf("%q: %v", typed, err)
				}
			}
		}
	}
	// One in 1024 is missed on average; ten times as many is a fault.
	if missed > tries/100 {
		t.Errorf("%d of %d slips passed", missed, tries)
	}
}

func TestWhatIsNoCode(t *testing.T) {
	for _, typed := range []string{
		"", "1", "push", "123456", "12345678", "phone2", "bypass-me", "sms", "cccccbcuhjgrjblgcrbvvecjjtukdkgebbngnhihrlkl",
		strings.Repeat("1", 24), strings.Repeat("8", 300), "bg", "U" + strings.Repeat("A", 23),
	} {
		if _, err := ParseCode(typed); !errors.Is(err, ErrForm) && !errors.Is(err, ErrTypo) {
			t.Errorf("%q is a code: %v", typed, err)
		}
		if LooksLike(typed) {
			t.Errorf("%q looks like a break-glass code, and could be a passcode", typed)
		}
	}
	if !LooksLike("bg-12") || !LooksLike(" BG-X") {
		t.Error("a code that was begun does not look like one")
	}
}

func TestCodeIsNeverPrinted(t *testing.T) {
	c := aCode(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(format, c); strings.Contains(text, c.secret) {
			t.Errorf("%s shows the secret: %s", format, text)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add("bg-0123-4567-89AB-CDEF-GHJK-MNPQ")
	f.Add("BG 0123 o l i")
	f.Add("\xff")
	f.Fuzz(func(t *testing.T, typed string) {
		c, err := ParseCode(typed)
		if err != nil {
			if !errors.Is(err, ErrForm) && !errors.Is(err, ErrTypo) {
				t.Errorf("%q: %v", typed, err)
			}
			return
		}
		again, err := ParseCode(c.Reveal())
		if err != nil || again != c {
			t.Errorf("%q was read as %q, which is read as %v, %v", typed, c.Reveal(), again, err)
		}
	})
}
