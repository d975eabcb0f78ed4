// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// The directory of an organisation with 50,000 people: slapd on a machine of its
// own, or on two that hold the same.

const (
	people = 50000

	readerDN       = "cn=reader,dc=example,dc=org"
	readerPassword = "the reader's password"
	adminDN        = "cn=admin,dc=example,dc=org"
	adminPassword  = "the directory's own"

	directoryCA = "/etc/sallyport/directory-ca.pem"
)

// slapdConf is slapd.conf(5). Nobody but the reader sees anything, and nothing
// goes over the network in the clear.
const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/ad.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile /etc/ldap/tls/cert.pem
TLSCertificateKeyFile /etc/ldap/tls/key.pem
pidfile /run/slapd/slapd.pid
sizelimit 2000
database mdb
maxsize 1073741824
suffix "dc=example,dc=org"
rootdn "` + adminDN + `"
rootpw "` + adminPassword + `"
directory /var/lib/ldap/people
index objectClass,uid,cn,member,memberUid,gidNumber,sAMAccountName,objectSid eq
access to attrs=userPassword by anonymous ssf=128 auth by * none
access to * by dn.exact="` + readerDN + `" ssf=128 read by * none
`

// adSchema is as much of Active Directory as its people and groups need.
const adSchema = `
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.2 NAME 'objectSid' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.3 NAME 'primaryGroupID' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.4 NAME 'objectCategory' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.5 NAME 'user' SUP inetOrgPerson STRUCTURAL MAY ( sAMAccountName $ objectSid $ primaryGroupID $ objectCategory ) )
objectclass ( 1.3.6.1.4.1.99999.6 NAME 'group' SUP top STRUCTURAL MUST cn MAY ( member $ sAMAccountName $ objectSid ) )
`

func userDN(i int) string { return fmt.Sprintf("uid=u%05d,ou=people,dc=example,dc=org", i) }

func groupDN(cn string) string { return "cn=" + cn + ",ou=groups,dc=example,dc=org" }

// Whom the groups hold: each person is in one team of 50, ten teams make a
// department, all departments together the staff. Every thousandth is on call
// (a posixGroup) and in the ring, three groups of which each is in the next. The
// first is at the bottom of a well, twelve groups deep.
func teamOf(i int) string       { return fmt.Sprintf("team-%d", i/50) }
func departmentOf(i int) string { return fmt.Sprintf("department-%d", i/500) }

func ldif() string {
	var b strings.Builder
	entry := func(dn string, lines ...string) {
		b.WriteString("dn: " + dn + "\n" + strings.Join(lines, "\n") + "\n\n")
	}
	group := func(cn string, members ...string) {
		lines := []string{"objectClass: groupOfNames", "cn: " + cn}
		for _, m := range members {
			lines = append(lines, "member: "+m)
		}
		entry(groupDN(cn), lines...)
	}
	entry("dc=example,dc=org", "objectClass: dcObject", "objectClass: organization", "o: Example", "dc: example")
	for _, ou := range []string{"people", "groups", "others", "ad"} {
		entry("ou="+ou+",dc=example,dc=org", "objectClass: organizationalUnit", "ou: "+ou)
	}
	entry(readerDN, "objectClass: organizationalRole", "objectClass: simpleSecurityObject", "cn: reader", "userPassword: "+readerPassword)
	var departments, team, department, oncall []string
	for i := range people {
		writePerson(entry, fmt.Sprintf("u%05d", i), i, fmt.Sprintf("Person.%d@example.org", i))
		team = append(team, userDN(i))
		if i%1000 == 0 {
			oncall = append(oncall, fmt.Sprintf("memberUid: u%05d", i))
		}
		if (i+1)%50 == 0 {
			group(teamOf(i), team...)
			department, team = append(department, groupDN(teamOf(i))), nil
		}
		if (i+1)%500 == 0 {
			group(departmentOf(i), department...)
			departments, department = append(departments, groupDN(departmentOf(i))), nil
		}
	}
	group("staff", departments...)
	group("ring-0", userDN(0), groupDN("ring-2"))
	group("ring-1", groupDN("ring-0"))
	group("ring-2", groupDN("ring-1"))
	group("well-0", userDN(1))
	for depth := 1; depth <= 12; depth++ {
		group(fmt.Sprintf("well-%d", depth), groupDN(fmt.Sprintf("well-%d", depth-1)))
	}
	// Two groups of one name, and names that look like filters.
	group("twice", userDN(2))
	entry("cn=twice,ou=others,dc=example,dc=org", "objectClass: groupOfNames", "cn: twice", "member: "+userDN(3))
	writePerson(entry, "*)(uid=*", 70001, "odd@example.org")
	group("odd (*)", `uid=*)(uid\3D*,ou=people,dc=example,dc=org`)
	for _, cn := range []string{"trusted-inner", "banned", "careful"} {
		group(cn, readerDN)
	}
	group("trusted", groupDN("trusted-inner"))
	entry("cn=posix-oncall,ou=groups,dc=example,dc=org", append([]string{"objectClass: posixGroup", "cn: posix-oncall", "gidNumber: 4711"}, oncall...)...)
	entry("cn=posix-primary,ou=groups,dc=example,dc=org", "objectClass: posixGroup", "cn: posix-primary", "gidNumber: 100")

	// A corner of it as Active Directory has it: S-1-5-21-1-2-3-RID.
	sid := func(rid byte) string {
		return "objectSid:: " + base64Of(1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, rid, 2, 0, 0)
	}
	entry("cn=Anna,ou=ad,dc=example,dc=org", "objectClass: user", "objectCategory: person", "cn: Anna", "sn: A", "sAMAccountName: Anna", sid(80), "primaryGroupID: 513", "mail: anna@example.org")
	entry("cn=Users,ou=ad,dc=example,dc=org", "objectClass: group", "cn: Users", "sAMAccountName: Domain Users", sid(1))
	entry("cn=Admins,ou=ad,dc=example,dc=org", "objectClass: group", "cn: Admins", "sAMAccountName: Admins", sid(2), "member: cn=Users,ou=ad,dc=example,dc=org")
	entry("cn=Others,ou=ad,dc=example,dc=org", "objectClass: group", "cn: Others", "sAMAccountName: Others", sid(3))
	return b.String()
}

func writePerson(entry func(string, ...string), uid string, number int, mail string) {
	dn := "uid=" + strings.ReplaceAll(uid, "=", `\3D`) + ",ou=people,dc=example,dc=org"
	entry(dn, "objectClass: inetOrgPerson", "objectClass: posixAccount", "uid: "+uid, "cn: "+uid, "sn: "+uid,
		fmt.Sprintf("uidNumber: %d", 100000+number), "gidNumber: 100", "homeDirectory: /nowhere", "mail: "+mail)
}

// directorySite is the machines that hold the directory.
type directorySite struct {
	servers []*harness.Container
	ca      []byte
}

// newDirectory fills two machines with the same data and starts slapd on them.
func newDirectory(t *testing.T, lab *harness.Lab) *directorySite {
	t.Helper()
	ctx := t.Context()
	d := &directorySite{}
	ca, key := newCA(t)
	d.ca = pemOf("CERTIFICATE", ca.Raw)
	data := []byte(ldif())
	for _, name := range []string{"ldap1", "ldap2"} {
		c, err := lab.Start(ctx, name, harness.Options{})
		must(t, err)
		cert, private := newServerCert(t, ca, key, name)
		must(t, c.Put(ctx,
			harness.File{Path: "/etc/ldap/test.conf", Mode: 0o600, Data: []byte(slapdConf)},
			harness.File{Path: "/etc/ldap/ad.schema", Mode: 0o644, Data: []byte(adSchema)},
			harness.File{Path: "/etc/ldap/tls/cert.pem", Mode: 0o644, Data: cert},
			harness.File{Path: "/etc/ldap/tls/key.pem", Mode: 0o600, Data: private},
			harness.File{Path: "/root/people.ldif", Mode: 0o600, Data: data}))
		// Offline and without the checks of a running server it takes seconds.
		_, err = c.Shell(ctx, "mkdir -p /var/lib/ldap/people /run/slapd\nslapadd -q -f /etc/ldap/test.conf -l /root/people.ldif\n")
		must(t, err)
		d.servers = append(d.servers, c)
		d.start(t, c)
	}
	return d
}

// start runs slapd and waits until it serves.
func (d *directorySite) start(t *testing.T, c *harness.Container) {
	t.Helper()
	// slapd makes a table as long as the limit of open files.
	run := harness.Command{Args: []string{"/bin/sh", "-c", "ulimit -n 4096; exec slapd -d 0 -f /etc/ldap/test.conf -h 'ldap:/// ldaps:/// ldapi:///'"}}
	must(t, c.Daemon(t.Context(), "slapd", run))
	must(t, c.AwaitPort(t.Context(), "636"))
}

// kill ends slapd as a crash does.
func (d *directorySite) kill(t *testing.T, c *harness.Container) {
	t.Helper()
	must(t, c.Signal(t.Context(), "slapd", "KILL"))
}

// modify changes both servers alike, over their local sockets.
func (d *directorySite) modify(t *testing.T, ldif string) {
	t.Helper()
	for _, c := range d.servers {
		run := harness.Command{Args: []string{"ldapmodify", "-x", "-H", "ldap://localhost", "-D", adminDN, "-w", adminPassword}, Stdin: strings.NewReader(ldif)}
		out, err := c.Run(t.Context(), run)
		must(t, err)
		if out.Code != 0 {
			t.Fatalf("ldapmodify: %s", out.Output())
		}
	}
}

func newCA(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of the directory"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert, key
}

func newServerCert(t *testing.T, ca *x509.Certificate, signer *ecdsa.PrivateKey, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &private.PublicKey, signer)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", pkcs8)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// trust puts the directory's CA and the reader's password on the host.
func (d *directorySite) trust(t *testing.T, host *harness.Container) {
	t.Helper()
	must(t, host.Put(context.Background(),
		harness.File{Path: directoryCA, Mode: 0o644, Data: d.ca},
		harness.File{Path: "/etc/sallyport/ldap_password", Mode: 0o600, Data: []byte(readerPassword + "\n")},
		harness.File{Path: "/etc/sallyport/wrong_password", Mode: 0o600, Data: []byte("guessed\n")}))
}
