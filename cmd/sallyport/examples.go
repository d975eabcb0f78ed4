// SPDX-License-Identifier: Apache-2.0

package main

// examples show the commands whose use does not follow from their flags, by
// command path, one a line. A test parses each of them.
var examples = map[string][]string{
	"sallyport admin user set":         {"sallyport admin user set alice --status active    # also ends a lock-out"},
	"sallyport admin user bulk-add":    {"sallyport admin user bulk-add users.csv    # username,email,alias1"},
	"sallyport admin group add-user":   {"sallyport admin group add-user operators alice bob"},
	"sallyport admin policy set":       {"sallyport admin policy set global --allow-method duo-push --require-verified-push", "sallyport admin policy set office --file policy.json"},
	"sallyport admin policy apply":     {"sallyport admin policy apply office --integration DIXXXXXXXXXXXXXXXXXX --group operators"},
	"sallyport admin policy explain":   {"sallyport admin policy explain --user alice --integration DIXXXXXXXXXXXXXXXXXX --ip 192.0.2.7"},
	"sallyport admin token add":        {"sallyport admin token add --user alice --type totp", "sallyport admin token add --user alice --type hotp --digits 8", "sallyport admin token add --user alice --type yk --serial 1234567 --private-id 010203040506 --aes-key 000102030405060708090a0b0c0d0e0f"},
	"sallyport admin phone add":        {"sallyport admin phone add --user alice --name laptop    # a place for an authenticator", "sallyport admin phone add --user alice --number +49301234567 --type mobile"},
	"sallyport admin bypass-codes add": {"sallyport admin bypass-codes add alice --count 1 --valid 8h"},
	"sallyport admin integration add": {
		"sallyport admin integration add --type authapi --name 'VPN' --allow-plain-push",
		"sallyport admin integration add --type adminapi --name 'log reader' --grant read-log",
	},
	"sallyport admin host token":            {"sallyport admin host token --name db1 --valid 15m"},
	"sallyport admin log auth":              {"sallyport admin log auth --user alice --since 7d", "sallyport admin log auth --follow --json"},
	"sallyport admin telephony credits set": {"sallyport admin telephony credits set 500", "sallyport admin telephony credits set off"},
	"sallyport admin management-system add": {"sallyport admin management-system add laptops --os windows --out laptops.json"},
	"sallyport admin management-system set": {"sallyport admin management-system set DM… --status all"},
	"sallyport device-cache sync":           {"sallyport device-cache sync --infile devices.csv --profile laptops.json"},
	"sallyport host join":                   {"sallyport host join https://verifier.example.org:8443 --token - < token"},
	"sallyport authenticator activate":      {"sallyport authenticator activate 'https://verifier.example.org:8443/sallyport/activate#sa1.…'"},
	"sallyport authenticator approve":       {"sallyport authenticator approve --code 123456"},
	"sallyport rules explain":               {"sallyport rules explain --user backup --source 10.0.4.7 --key SHA256:…", "sallyport rules explain --user alice --service sudo --target root --command '/usr/bin/passwd bob' --at '2026-12-31 23:30'"},
	"sallyport rules replay":                {"sallyport rules replay --config new/authd.toml - < log.json    # of journalctl -o json -u sallyport-authd", "sallyport rules replay authd.log"},
	"sallyport rules sshd-config":           {"sallyport rules sshd-config > /etc/ssh/sshd_config.d/60-sallyport-batch.conf"},
	"sallyport pam enable":                  {"sallyport pam enable sudo su", "sallyport pam enable sshd --try alice"},
	"sallyport pam status":                  {"sallyport pam status --json"},
	"sallyport breakglass generate":         {"sallyport breakglass generate --user root --service sshd,login,sudo,su --count 5 --note 'safe, room 4'"},
	"sallyport breakglass revoke":           {"sallyport breakglass revoke bg-K7Q2    # its name in the list"},
	"sallyport gateway sessions list":       {"sallyport gateway sessions list --watch", "sallyport gateway sessions list --user alice --json"},
	"sallyport gateway sessions end":        {"sallyport gateway sessions end 3f2a91c0    # an id of the list", "sallyport gateway sessions end --user alice"},
	"sallyport ssh-config":                  {"sallyport ssh-config --gateway gw.example:2222 --user alice --inventory targets.toml >> ~/.ssh/config", "sallyport ssh-config --known-hosts --host-ca host_ca.pub --inventory targets.toml >> ~/.ssh/known_hosts"},
	"sallyport replay": {
		"sallyport replay --idle-limit 2s 20261122T083134Z-3f2a91c0.cast",
		"sallyport replay --identity auditor.key --search 'rm -rf' 20261122T083134Z-3f2a91c0.cast.age > found.txt",
	},
	"sallyport doctor": {"sallyport doctor --user alice --address 192.0.2.7"},
}
