// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// runSFTP runs a batch with OpenSSH's client through a filter.
func runSFTP(t *testing.T, a area, dir, batch string) (string, []Op, error) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	a.OpsFile = filepath.Join(t.TempDir(), "ops")
	rules, err := json.Marshal(a)
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "sftp", "-b", "-", "-D", self)
	cmd.Env = append(os.Environ(), filterEnv+"="+string(rules))
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(batch)
	out, runErr := cmd.CombinedOutput()
	text, err := os.ReadFile(a.OpsFile)
	must(t, err)
	var ops []Op
	for dec := json.NewDecoder(bytes.NewReader(text)); ; {
		var op Op
		if err := dec.Decode(&op); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
	return string(out), ops, runErr
}

func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

const batch = `put big up/big
get up/big back
mkdir up/new
rename up/big up/new/moved
ln -s moved up/new/link
ln up/new/moved up/new/hard
chmod 600 up/new/moved
ls -l up/new
get up/new/link back2
rm up/new/hard
rm up/new/link
rm up/new/moved
rmdir up/new
df up
`

func TestTheRealClientDoesItsWorkAndAllIsTold(t *testing.T) {
	for _, all := range []bool{true, false} {
		t.Run(fmt.Sprintf("unrestricted %v", all), func(t *testing.T) {
			dir := realDir(t)
			big := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
			must(t, os.WriteFile(filepath.Join(dir, "big"), big, 0o600))
			must(t, os.Mkdir(filepath.Join(dir, "up"), 0o700))
			up := filepath.Join(dir, "up")
			out, ops, err := runSFTP(t, area{All: all, Read: []string{up}, Write: []string{up}}, dir, batch)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, name := range []string{"back", "back2"} {
				got, err := os.ReadFile(filepath.Join(dir, name))
				must(t, err)
				if !bytes.Equal(got, big) {
					t.Errorf("%s has %d bytes that are others", name, len(got))
				}
			}
			link := "up/new/link"
			if !all { // where it leads is known
				link = "up/new/moved"
			}
			size := int64(len(big))
			want := []Op{
				{Kind: "write", Path: "up/big", Bytes: size, SHA256: sum(big), Result: "ok"},
				{Kind: "read", Path: "up/big", Bytes: size, SHA256: sum(big), Result: "ok"},
				{Kind: "mkdir", Path: "up/new", Result: "ok"},
				{Kind: "rename", Path: "up/big", To: "up/new/moved", Result: "ok"},
				{Kind: "symlink", Path: "up/new/link", To: "moved", Result: "ok"},
				{Kind: "link", Path: "up/new/moved", To: "up/new/hard", Result: "ok"},
				{Kind: "setstat", Path: "up/new/moved", Result: "ok"},
				{Kind: "list", Path: "up/new", Result: "ok"},
				{Kind: "read", Path: link, Bytes: size, SHA256: sum(big), Result: "ok"},
				{Kind: "remove", Path: "up/new/hard", Result: "ok"},
				{Kind: "remove", Path: "up/new/link", Result: "ok"},
				{Kind: "remove", Path: "up/new/moved", Result: "ok"},
				{Kind: "rmdir", Path: "up/new", Result: "ok"},
			}
			for i := range ops {
				ops[i].Path = strings.TrimPrefix(ops[i].Path, dir+"/")
				ops[i].To = strings.TrimPrefix(ops[i].To, dir+"/")
			}
			if !slices.Equal(ops, want) {
				t.Errorf("told:\n%s\nand not:\n%s\nthe client says:\n%s", lines(ops), lines(want), out)
			}
		})
	}
}

func lines(ops []Op) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&b, "%+v\n", op)
	}
	return b.String()
}
