// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
)

// Dial opens a connection to a machine that a browser may reach.
type Dial func() (net.Conn, error)

// Network is the network that a browser is on: a proxy (RFC 9110, CONNECT) that knows
// the named machines and nothing else. It can be cut and mended. Its methods may be
// called from several goroutines.
type Network struct {
	space    space
	listener net.Listener

	mu      sync.Mutex
	routes  map[string]Dial
	cut     bool
	wasCut  bool
	open    map[net.Conn]bool
	unknown []string
}

// NewNetwork starts one on the loopback interface; routes names the machines by
// authority, as "verifier.example:8443". The caller closes it.
func NewNetwork(routes map[string]Dial) (*Network, error) {
	place, listener, err := newSpace()
	if err != nil {
		return nil, fmt.Errorf("a browser's network: %w", err)
	}
	return newNetwork(place, listener, routes), nil
}

// NewOpenNetwork is [NewNetwork] for a browser that sees the machine's own
// interfaces: where there is none but the loopback, Chromium asks for no push
// messages. A test that uses it cannot run beside others, whose containers come and go.
func NewOpenNetwork(routes map[string]Dial) (*Network, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("a browser's network: %w", err)
	}
	return newNetwork(space{}, listener, routes), nil
}

func newNetwork(place space, listener net.Listener, routes map[string]Dial) *Network {
	n := &Network{space: place, listener: listener, routes: routes, open: map[net.Conn]bool{}}
	go n.accept()
	return n
}

// Route makes another machine known, by authority.
func (n *Network) Route(authority string, dial Dial) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.routes[authority] = dial
}

// Close ends every connection and the proxy.
func (n *Network) Close() error {
	n.Cut()
	n.space.close()
	return n.listener.Close()
}

// Cut ends every connection and refuses new ones, until [Network.Mend].
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.wasCut = true, true
	for c := range n.open {
		_ = c.Close()
	}
}

// Mend takes connections again.
func (n *Network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = false
}

// Unknown are the authorities that the browser asked for and that are not on the
// network.
func (n *Network) Unknown() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.unknown)
}

// disturbed reports whether the network has ever been cut.
func (n *Network) disturbed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wasCut
}

func (n *Network) address() string { return n.listener.Addr().String() }

func (n *Network) accept() {
	for {
		conn, err := n.listener.Accept()
		if err != nil {
			return
		}
		go n.serve(conn)
	}
}

// keep notes a connection for [Network.Cut], unless the network is cut.
func (n *Network) keep(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		return false
	}
	n.open[c] = true
	return true
}

func (n *Network) drop(c net.Conn) {
	_ = c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
}

func (n *Network) route(authority string) Dial {
	n.mu.Lock()
	defer n.mu.Unlock()
	dial := n.routes[authority]
	if dial == nil && !slices.Contains(n.unknown, authority) {
		n.unknown = append(n.unknown, authority)
	}
	return dial
}

func (n *Network) serve(client net.Conn) {
	defer n.drop(client)
	if !n.keep(client) {
		return
	}
	reader := bufio.NewReader(client)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	dial := n.route(request.Host)
	if request.Method != http.MethodConnect || dial == nil {
		_, _ = io.WriteString(client, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		return
	}
	server, err := dial()
	if err != nil {
		_, _ = io.WriteString(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer n.drop(server)
	if !n.keep(server) {
		return
	}
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// Either direction's end ends both.
	go func() {
		_, _ = io.Copy(server, reader)
		n.drop(server)
	}()
	_, _ = io.Copy(client, server)
}
