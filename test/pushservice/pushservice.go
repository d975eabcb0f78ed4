// SPDX-License-Identifier: Apache-2.0

// Package pushservice is the other end of Web Push for tests: a strict push
// service (RFC 8030), which checks who sends (RFC 8292) and refuses what a real one
// may refuse, and the user agents behind it, which decrypt (RFC 8291). It shares
// no code with the sender under test. It can be told to fail.
//
// In a Go test [Start] serves on the loopback. Inside a container `drv
// pushservice` serves it, and a [Client] talks to its control port.
package pushservice

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody is what a push service must take (RFC 8030, section 7.2), and all that this one does.
const maxBody = 4096

// Message is one push message, as it came.
type Message struct {
	ID       string        `json:"id"`
	TTL      time.Duration `json:"ttl"`
	Urgency  string        `json:"urgency"`
	Topic    string        `json:"topic"`
	Body     []byte        `json:"body"` // aes128gcm
	Subject  string        `json:"subject"`
	Received time.Time     `json:"received"`
}

// Answer is what the service does with a request in place of its duty. Exactly one
// of Status, Hang and Close is set.
type Answer struct {
	Status     int    `json:"status,omitempty"`
	RetryAfter string `json:"retry_after,omitempty"` // header, beside Status
	Location   string `json:"location,omitempty"`    // header, beside Status
	Body       string `json:"body,omitempty"`        // beside Status
	Hang       bool   `json:"hang,omitempty"`        // no answer until the client gives up
	Close      bool   `json:"close,omitempty"`       // break the connection

	// Until, beside Status: the answer waits until it is closed.
	Until <-chan struct{} `json:"-"`
}

// Request is one request that came to a push resource.
type Request struct {
	Path   string      `json:"path"`
	Status int         `json:"status"` // 0: none was sent
	Why    string      `json:"why"`    // of a refusal
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// Service is a push service. Make one with New; it is safe for concurrent use.
type Service struct {
	origins []string
	now     func() time.Time
	stop    chan struct{}
	once    sync.Once

	mu        sync.Mutex
	resources map[string]*Resource
	answers   []Answer
	requests  []Request
	changed   chan struct{} // closed and made anew at each request
}

// New makes the service that is reached at origins, such as https://push.example.
// Endpoints are made of the first.
func New(now func() time.Time, origins ...string) *Service {
	return &Service{
		origins: origins, now: now, stop: make(chan struct{}), resources: map[string]*Resource{}, changed: make(chan struct{}),
	}
}

// Close lets go of requests that hang.
func (s *Service) Close() { s.once.Do(func() { close(s.stop) }) }

// Resource is a push resource: one subscription at the service.
type Resource struct {
	// Endpoint is its URL.
	Endpoint string

	s       *Service
	path    string
	key     []byte // the one that may send; nil: any
	gone    bool
	waiting []Message
	woken   chan struct{}
	deliver func(Message) // nil: messages wait for Receive
}

// Add makes a push resource at path. key is the uncompressed point of the one
// sender that is let in (RFC 8292, section 4); nil: any. With deliver, messages go
// there at once; else they wait for [Resource.Next].
func (s *Service) Add(path string, key []byte, deliver func(Message)) *Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Resource{Endpoint: s.origins[0] + path, s: s, path: path, key: key, deliver: deliver, woken: make(chan struct{})}
	s.resources[path] = r
	return r
}

// Path is a fresh path of a push resource.
func Path() string { return "/push/" + token() }

func token() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Unsubscribe ends the subscription: the service answers 410 from now on.
func (r *Resource) Unsubscribe() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.gone = true
}

// take returns the oldest message that has not expired, or a channel that is
// closed when another comes.
func (r *Resource) take() (Message, bool, <-chan struct{}) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for len(r.waiting) > 0 {
		m := r.waiting[0]
		r.waiting = r.waiting[1:]
		if r.s.now().Before(m.Received.Add(m.TTL)) {
			return m, true, nil
		}
	}
	return Message{}, false, r.woken
}

// Next waits for the next message until done is closed.
func (r *Resource) Next(done <-chan struct{}) (Message, error) {
	for {
		m, ok, woken := r.take()
		if ok {
			return m, nil
		}
		select {
		case <-woken:
		case <-done:
			return Message{}, errors.New("no push message came")
		}
	}
}

// Waiting is how many messages wait.
func (r *Resource) Waiting() int {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return len(r.waiting)
}

// Script makes the next requests, one each, end otherwise than they should.
func (s *Service) Script(answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, answers...)
}

// Requests are those that came so far.
func (s *Service) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// AwaitRequests waits until n requests have come, or done is closed.
func (s *Service) AwaitRequests(n int, done <-chan struct{}) ([]Request, error) {
	for {
		s.mu.Lock()
		got, changed := slices.Clone(s.requests), s.changed
		s.mu.Unlock()
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-changed:
		case <-done:
			return got, fmt.Errorf("%d requests came, not %d", len(got), n)
		}
	}
}

// refusal is an answer that is not 201.
type refusal struct {
	status int
	why    string
}

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	entry := Request{Path: r.URL.Path, Header: r.Header.Clone(), Body: body}
	scripted, ok := s.next()
	switch {
	case err != nil:
		return // the client broke off
	case ok && (scripted.Hang || scripted.Close):
		s.note(entry)
		if scripted.Hang {
			select {
			case <-r.Context().Done():
			case <-s.stop:
			}
		}
		panic(http.ErrAbortHandler)
	case ok:
		entry.Status, entry.Why = scripted.Status, "as told"
		s.note(entry)
		if scripted.Until != nil {
			select {
			case <-scripted.Until:
			case <-s.stop:
			}
		}
		for name, value := range map[string]string{"Retry-After": scripted.RetryAfter, "Location": scripted.Location} {
			if value != "" {
				w.Header().Set(name, value)
			}
		}
		w.WriteHeader(scripted.Status)
		_, _ = io.WriteString(w, scripted.Body) // a client that is gone is no error
		return
	}
	message, resource, no := s.accept(r, body)
	if no != nil {
		entry.Status, entry.Why = no.status, no.why
		s.note(entry)
		http.Error(w, no.why, no.status)
		return
	}
	entry.Status = http.StatusCreated
	s.keep(resource, message)
	s.note(entry)
	w.Header().Set("Location", s.origins[0]+"/message/"+message.ID)
	w.Header().Set("TTL", strconv.Itoa(int(message.TTL.Seconds())))
	w.WriteHeader(http.StatusCreated)
}

func (s *Service) next() (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		return Answer{}, false
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	return a, true
}

func (s *Service) note(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	close(s.changed)
	s.changed = make(chan struct{})
}

// keep lets a message wait, in the place of one of the same topic (RFC 8030,
// section 5.4), or delivers it.
func (s *Service) keep(r *Resource, m Message) {
	s.mu.Lock()
	deliver := r.deliver
	if deliver == nil && m.TTL > 0 {
		if m.Topic != "" {
			r.waiting = slices.DeleteFunc(r.waiting, func(old Message) bool { return old.Topic == m.Topic })
		}
		r.waiting = append(r.waiting, m)
		close(r.woken)
		r.woken = make(chan struct{})
	}
	s.mu.Unlock()
	if deliver != nil {
		deliver(m)
	}
}

var (
	urgencies = []string{"", "very-low", "low", "normal", "high"} // RFC 8030, section 5.3
	topicForm = regexp.MustCompile(`^[A-Za-z0-9_-]{0,32}$`)       // section 5.4
)

// accept checks a request to send.
func (s *Service) accept(r *http.Request, body []byte) (Message, *Resource, *refusal) {
	m := Message{ID: token(), Urgency: r.Header.Get("Urgency"), Topic: r.Header.Get("Topic"), Body: body, Received: s.now()}
	s.mu.Lock()
	resource := s.resources[r.URL.Path]
	gone := resource != nil && resource.gone
	s.mu.Unlock()
	switch {
	case resource == nil:
		return m, nil, refuse(http.StatusNotFound, "no such push resource")
	case r.Method != http.MethodPost:
		return m, nil, refuse(http.StatusMethodNotAllowed, "messages are sent by POST")
	case gone:
		return m, nil, refuse(http.StatusGone, "the subscription has ended")
	case len(body) > maxBody:
		return m, nil, refuse(http.StatusRequestEntityTooLarge, "over %d bytes", maxBody)
	}
	ttl, err := strconv.ParseUint(r.Header.Get("TTL"), 10, 31) // section 5.2: it must be there
	switch {
	case err != nil || len(r.Header.Values("TTL")) != 1:
		return m, nil, refuse(http.StatusBadRequest, "TTL: %q", r.Header.Values("TTL"))
	case !slices.Contains(urgencies, m.Urgency):
		return m, nil, refuse(http.StatusBadRequest, "Urgency: %q", m.Urgency)
	case !topicForm.MatchString(m.Topic):
		return m, nil, refuse(http.StatusBadRequest, "Topic: %q", m.Topic)
	case len(body) > 0 && r.Header.Get("Content-Encoding") != "aes128gcm":
		return m, nil, refuse(http.StatusUnsupportedMediaType, "Content-Encoding: %q", r.Header.Get("Content-Encoding"))
	}
	m.TTL = time.Duration(ttl) * time.Second
	if len(body) > 0 {
		if err := checkHeader(body); err != nil {
			return m, nil, refuse(http.StatusBadRequest, "body: %v", err)
		}
	}
	if !slices.Contains(s.origins, "https://"+r.Host) {
		return m, nil, refuse(http.StatusMisdirectedRequest, "Host: %q", r.Host)
	}
	claims, err := checkVAPID(r.Header.Get("Authorization"), "https://"+r.Host, resource.key, s.now())
	switch {
	case err == nil:
	case strings.HasPrefix(err.Error(), "k:"):
		return m, nil, refuse(http.StatusForbidden, "%v", err)
	default:
		return m, nil, refuse(http.StatusUnauthorized, "%v", err)
	}
	m.Subject = claims.Subject
	return m, resource, nil
}
