// SPDX-License-Identifier: Apache-2.0

package ldap

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"
)

// BenchmarkInGroup is whether a person is in a group two levels up: from the
// cache, beside a bare map, and cold, beside a bare round trip over TCP on
// loopback. Cold is four questions one after the other: the group, the person,
// their groups, the groups of these. The directory is a stand-in that answers at
// once, so that what is measured is ours; test/integration asks slapd.
func BenchmarkInGroup(b *testing.B) {
	b.Run("floor/map", func(b *testing.B) {
		groups := map[string]map[string]bool{"alice": {"cn=staff": true}}
		for b.Loop() {
			if !groups["alice"]["cn=staff"] {
				b.Fatal("not in the map")
			}
		}
	})
	address := respond(b)
	b.Run("cached", func(b *testing.B) {
		c := newClient(b, newClock(), "urls = [\"ldap://"+address+"\"]\n")
		inGroup(b, c, "alice", "staff")
		for b.Loop() {
			inGroup(b, c, "alice", "staff")
		}
	})
	b.Run("floor/tcp", func(b *testing.B) {
		conn := echo(b)
		buf := make([]byte, 100)
		for b.Loop() {
			if _, err := conn.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(conn, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cold", func(b *testing.B) {
		c := newClient(b, newClock(), "urls = [\"ldap://"+address+"\"]\n")
		inGroup(b, c, "alice", "staff") // the connection is there already
		for n := 0; b.Loop(); n++ {
			inGroup(b, c, fmt.Sprintf("user%d", n), fmt.Sprintf("staff%d", n))
		}
	})
}

func inGroup(b *testing.B, c *Client, user, group string) {
	if in, err := c.InGroup(b.Context(), user, group); !in || err != nil {
		b.Fatal(in, err)
	}
}

// echo is a connection on which everything comes back.
func echo(b *testing.B) net.Conn {
	b.Helper()
	l := listen(b, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	conn, err := net.DialTimeout("tcp", l, time.Second)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return conn
}

func listen(b *testing.B, serve func(net.Conn)) (address string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// respond is as much of a directory as the benchmark asks: everybody is in the
// team, and the team in every group that anyone asks for.
func respond(b *testing.B) (address string) {
	b.Helper()
	return listen(b, func(conn net.Conn) {
		group := ""
		for {
			req, err := ber.ReadPacket(conn)
			if err != nil {
				return
			}
			filter, err := goldap.DecompileFilter(req.Children[1].Children[6])
			if err != nil {
				return
			}
			dn, uid := "", ""
			switch {
			case strings.Contains(filter, "(cn="):
				_, name, _ := strings.Cut(filter, "(cn=")
				group = "cn=" + strings.TrimRight(name, ")") + ",dc=example,dc=org"
				dn = group
			case strings.Contains(filter, "(uid="):
				_, name, _ := strings.Cut(filter, "(uid=")
				uid = strings.TrimRight(name, ")")
				dn = "uid=" + uid + ",dc=example,dc=org"
			case strings.Contains(filter, "(member=uid="):
				dn = "cn=team,dc=example,dc=org"
			case strings.Contains(filter, "(member=cn=team,"):
				dn = group
			}
			if dn != "" {
				write(conn, req, entryOf(dn, uid))
			}
			done := ber.Encode(ber.ClassApplication, ber.TypeConstructed, goldap.ApplicationSearchResultDone, nil, "")
			done.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, 0, ""))
			done.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
			done.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
			write(conn, req, done)
		}
	})
}

func entryOf(dn, uid string) *ber.Packet {
	entry := ber.Encode(ber.ClassApplication, ber.TypeConstructed, goldap.ApplicationSearchResultEntry, nil, "")
	entry.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, dn, ""))
	attributes := ber.NewSequence("")
	if uid != "" {
		attribute, values := ber.NewSequence(""), ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		values.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, uid, ""))
		attribute.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "uid", ""))
		attribute.AppendChild(values)
		attributes.AppendChild(attribute)
	}
	entry.AppendChild(attributes)
	return entry
}

func write(conn net.Conn, req, op *ber.Packet) {
	message := ber.NewSequence("")
	message.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, req.Children[0].Value, ""))
	message.AppendChild(op)
	_, _ = conn.Write(message.Bytes())
}
