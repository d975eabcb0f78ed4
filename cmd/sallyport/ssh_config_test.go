// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// On the gateway's own machine nobody types where it is.
func TestGatewayHere(t *testing.T) {
	dir := t.TempDir()
	path, targets := filepath.Join(dir, "sshgw.toml"), filepath.Join(dir, "targets.toml")
	if c, _, err := gatewayHere(path, true); c != nil || err != nil {
		t.Errorf("no gateway: %v, %v", c, err)
	}
	for file, text := range map[string]string{
		path: "name = \"gw.example.org\"\nlisten = [\":2022\"]\n[targets]\nfiles = [\"" + targets + "\"]\n", targets: "[[target]]\nname = \"db1\"\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := gatewayHere(path, true)
	if err != nil || c.Address() != "gw.example.org:2022" {
		t.Fatalf("%v, %v", c, err)
	}
	if list, err := readInventories(nil, c); err != nil || len(list) != 1 || len(list[0].All()) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if c, _, err := gatewayHere(path, false); c != nil || err != nil {
		t.Errorf("read without need: %v, %v", c, err)
	}
}
