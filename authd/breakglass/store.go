// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// DefaultDir is where the store is.
const DefaultDir = "/var/lib/sallyport/breakglass"

// Files of the store.
const (
	codesFile = "codes" // what each code is for and its hash; replaced as a whole
	usesFile  = "uses"  // one slot per code, overwritten in place; also the lock
)

// Limits of the store.
const (
	// MaxCodes is how many codes the store holds, the spent ones included.
	MaxCodes = 256
	// MaxNames is how many users, and how many services, one code may name.
	MaxNames = 16
	maxName  = 255
	maxNote  = 200
	maxLine  = 16 << 10
	maxFile  = MaxCodes * maxLine
)

// AllServices stands for every service in Definition.Services.
const AllServices = "all"

// Cost of the hash (argon2id, RFC 9106). A code has 90 bits of its own, so the
// cost is a second wall, and low enough for a small machine in trouble.
const (
	hashTime    = 3
	hashMemory  = 32 << 10 // KiB
	hashLength  = 32
	saltLength  = 16
	maxTime     = 16
	maxHashSize = 64 << 10 // KiB; more is a damaged file, not a cost
)

// Account is a person whom a code lets in.
type Account struct {
	Name string `json:"name"` // canonical Unix name
	// UID is the account's number when the code was made, for su, which tells
	// its caller by number; -1 where it was not known.
	UID int64 `json:"uid"`
}

// Definition is what a code is for.
type Definition struct {
	ID       string    `json:"id"`
	Slot     int       `json:"slot"`
	Users    []Account `json:"users"`
	Services []string  `json:"services"`
	Note     string    `json:"note,omitempty"`
	Created  time.Time `json:"created"`

	Salt   []byte `json:"salt"`
	Hash   []byte `json:"hash"`
	Time   uint32 `json:"argon2_time"`
	Memory uint32 `json:"argon2_kib"`
}

// Names says whether the code is for this person and service.
func (d *Definition) Names(user, service string) bool {
	return d.forService(service) && slices.ContainsFunc(d.Users, func(a Account) bool { return a.Name == user })
}

func (d *Definition) forService(service string) bool {
	return slices.Contains(d.Services, service) || slices.Contains(d.Services, AllServices)
}

// State is what has become of a code.
type State string

// The states.
const (
	Unused  State = "unused"
	Used    State = "used"
	Revoked State = "revoked"
	// Damaged is a code whose slot cannot be read: it lets nobody in.
	Damaged State = "damaged"
)

// Use is the record of a code that is spent.
type Use struct {
	ID      string    `json:"id"`
	State   State     `json:"state"` // Used or Revoked
	At      time.Time `json:"at"`
	User    string    `json:"user,omitempty"`
	Service string    `json:"service,omitempty"`
	Source  string    `json:"source,omitempty"` // address of the other end, empty for a local login
	TTY     string    `json:"tty,omitempty"`
	Via     string    `json:"via,omitempty"` // of a use: ViaModule or ViaAuthd
}

// Who asked for the code of a Use.
const (
	ViaModule = "module" // the PAM module, as authd was away: authd has yet to hear of it
	ViaAuthd  = "authd"
)

// Entry is a code as it stands.
type Entry struct {
	Definition
	State State
	Use   Use // of a spent code
}

// Errors of Redeem.
var (
	ErrUnknown = errors.New("no such break-glass code")
	ErrWrong   = errors.New("wrong break-glass code")
	ErrUsed    = errors.New("the break-glass code has been used")
	ErrRevoked = errors.New("the break-glass code has been revoked")
	// ErrNotFor says that the code is right, but for others or another service.
	ErrNotFor = errors.New("the break-glass code is not for this user and service")
	// ErrNoRecord says that the use cannot be recorded, so that the code is not taken.
	ErrNoRecord = errors.New("the use of the code cannot be recorded")
)

// Store keeps the codes of a host in a folder. It is safe for concurrent use, by
// several processes too. Only Generate needs room on the disk.
type Store struct {
	dir    string
	slot   chan struct{} // one hash at a time: each takes 32 MiB
	memory uint32        // KiB of the hash of new codes
}

// Open names the store in dir. Nothing is read or made until it is used.
func Open(dir string) *Store {
	return &Store{dir: dir, slot: make(chan struct{}, 1), memory: hashMemory}
}

// Owners says to whom Generate gives the files. A field of -1 leaves it.
type Owners struct {
	ProgramUID, ProgramGID int // of sallyport-breakglass: reads codes, writes uses
	AuthdGID               int // reads uses, to report them
}

// NoOwners leaves the files to whoever makes them.
var NoOwners = Owners{ProgramUID: -1, ProgramGID: -1, AuthdGID: -1}

// Request is what Generate makes codes of.
type Request struct {
	Users    []Account
	Services []string // or AllServices
	Count    int
	Note     string
	Owners   Owners
}

func (r *Request) check() error {
	switch {
	case r.Count < 1 || r.Count > MaxCodes:
		return fmt.Errorf("%d codes: it may be 1 to %d", r.Count, MaxCodes)
	case len(r.Users) == 0 || len(r.Users) > MaxNames:
		return fmt.Errorf("%d users: a code names 1 to %d", len(r.Users), MaxNames)
	case len(r.Services) == 0 || len(r.Services) > MaxNames:
		return fmt.Errorf("%d services: a code names 1 to %d, or all", len(r.Services), MaxNames)
	case len(r.Note) > maxNote || strings.ContainsFunc(r.Note, isControl):
		return fmt.Errorf("the note is one line of at most %d bytes", maxNote)
	}
	for _, a := range r.Users {
		if err := checkName("user", a.Name); err != nil {
			return err
		}
	}
	for _, name := range r.Services {
		if err := checkName("service", name); err != nil {
			return err
		}
	}
	return nil
}

func checkName(what, name string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, isControl) {
		return fmt.Errorf("%s %q is no name", what, name)
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// Generate makes codes and returns them, which is the only time that they are to
// be seen. It allocates the room in which their use will be recorded, and removes
// the oldest spent codes where the store is full.
func (s *Store) Generate(ctx context.Context, r Request, now time.Time, random io.Reader) ([]Code, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("make break-glass codes: %w", err)
	}
	if err := s.prepare(r.Owners); err != nil {
		return nil, fmt.Errorf("make break-glass codes: %w", err)
	}
	uses, unlock, err := s.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("make break-glass codes: %w", err)
	}
	defer unlock()
	codes, err := s.generate(uses, r, now, random)
	if err != nil {
		return nil, fmt.Errorf("make break-glass codes: %w", err)
	}
	return codes, nil
}

func (s *Store) generate(uses *os.File, r Request, now time.Time, random io.Reader) ([]Code, error) {
	defs, err := s.definitions()
	if err != nil {
		return nil, err
	}
	defs, free, err := s.makeRoom(uses, defs, r)
	if err != nil {
		return nil, err
	}
	var codes []Code
	for i := range r.Count {
		code, err := newCode(random, func(id string) bool {
			return slices.ContainsFunc(defs, func(d Definition) bool { return d.ID == id })
		})
		if err != nil {
			return nil, err
		}
		d := Definition{ID: code.id, Slot: free[i], Users: r.Users, Services: r.Services, Note: r.Note,
			Created: now.UTC().Truncate(time.Second), Salt: make([]byte, saltLength), Time: hashTime, Memory: s.memory}
		if _, err := io.ReadFull(random, d.Salt); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
		d.Hash = d.hash(code)
		defs, codes = append(defs, d), append(codes, code)
	}
	if err := s.replaceDefinitions(defs, r.Owners); err != nil {
		return nil, err
	}
	return codes, nil
}

// makeRoom returns as many free slots as r needs, and the codes that stay. A slot
// of a code that goes is blanked only once no code points to it any more.
func (s *Store) makeRoom(uses *os.File, defs []Definition, r Request) ([]Definition, []int, error) {
	spent := func(d Definition) bool {
		state, _ := readSlot(uses, d.Slot, d.ID)
		return state != Unused
	}
	for len(defs)+r.Count > MaxCodes {
		i := slices.IndexFunc(defs, spent)
		if i < 0 {
			return nil, nil, fmt.Errorf("%d codes are unused, and %d are the limit: revoke some first", len(defs), MaxCodes)
		}
		defs = slices.Delete(defs, i, i+1)
	}
	if err := s.replaceDefinitions(defs, r.Owners); err != nil {
		return nil, nil, err
	}
	taken := map[int]bool{}
	for _, d := range defs {
		taken[d.Slot] = true
	}
	var free []int
	for slot := 0; slot < MaxCodes && len(free) < r.Count; slot++ {
		if taken[slot] {
			continue
		}
		if err := writeSlot(uses, slot, blankSlot()); err != nil {
			return nil, nil, err
		}
		free = append(free, slot)
	}
	if err := uses.Sync(); err != nil {
		return nil, nil, fmt.Errorf("write %s: %w", usesFile, err)
	}
	if len(free) < r.Count {
		return nil, nil, errors.New("no free slot: the store is damaged")
	}
	return defs, free, nil
}

// List returns the codes as they stand, oldest first.
func (s *Store) List() ([]Entry, error) {
	defs, err := s.definitions()
	if err != nil {
		return nil, fmt.Errorf("list break-glass codes: %w", err)
	}
	uses, err := s.openUses(os.O_RDONLY)
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && len(defs) == 0) {
		return nil, fmt.Errorf("list break-glass codes: %w", err)
	}
	defer uses.Close()
	entries := make([]Entry, 0, len(defs))
	for _, d := range defs {
		state, use := readSlot(uses, d.Slot, d.ID)
		entries = append(entries, Entry{Definition: d, State: state, Use: use})
	}
	return entries, nil
}

// Unused counts the codes that would let this person in to this service.
func (s *Store) Unused(user, service string) (int, error) {
	entries, err := s.List()
	n := 0
	for _, e := range entries {
		if e.State == Unused && e.Names(user, service) {
			n++
		}
	}
	return n, err
}

// Revoke spends codes without letting anyone in. Those named in ids must exist;
// no ids: all that are unused. It returns the ones that were unused until now.
func (s *Store) Revoke(ctx context.Context, ids []string, now time.Time) ([]string, error) {
	fail := func(err error) ([]string, error) { return nil, fmt.Errorf("revoke break-glass codes: %w", err) }
	uses, unlock, err := s.lock(ctx)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	defs, err := s.definitions()
	if err != nil {
		return fail(err)
	}
	for _, id := range ids {
		if !slices.ContainsFunc(defs, func(d Definition) bool { return d.ID == id }) {
			return fail(fmt.Errorf("%w: %s", ErrUnknown, id))
		}
	}
	var revoked []string
	for _, d := range defs {
		if len(ids) > 0 && !slices.Contains(ids, d.ID) {
			continue
		}
		if state, _ := readSlot(uses, d.Slot, d.ID); state != Unused {
			continue
		}
		if err := spend(uses, d.Slot, Use{ID: d.ID, State: Revoked, At: now.UTC().Truncate(time.Second)}); err != nil {
			return revoked, fmt.Errorf("revoke break-glass code %s: %w", d.ID, err)
		}
		revoked = append(revoked, d.ID)
	}
	return revoked, nil
}

// Redeem spends a code for use.User and use.Service. Of any number of calls for
// one code, in any number of processes, exactly one returns nil, and only once the
// use is on disk. One hash is computed per call, for the code that the name part
// points to; calls wait for one another while they hash, and give up when ctx ends.
func (s *Store) Redeem(ctx context.Context, code Code, use Use) error {
	defs, err := s.definitions()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(defs, func(d Definition) bool { return d.ID == code.id })
	if i < 0 {
		return ErrUnknown
	}
	d := defs[i]
	right, err := s.matches(ctx, &d, code)
	switch {
	case err != nil:
		return err
	case !right:
		return ErrWrong
	case !d.Names(use.User, use.Service):
		return ErrNotFor
	}
	use.ID, use.State, use.At = d.ID, Used, use.At.UTC().Truncate(time.Second)
	return s.take(ctx, &d, use)
}

// matches computes the hash, one at a time in this process.
func (s *Store) matches(ctx context.Context, d *Definition, code Code) (bool, error) {
	select {
	case s.slot <- struct{}{}:
		defer func() { <-s.slot }()
	case <-ctx.Done():
		return false, fmt.Errorf("check break-glass code: %w", ctx.Err())
	}
	return subtle.ConstantTimeCompare(d.hash(code), d.Hash) == 1, nil
}

// take is the deciding step: under the lock it looks again whether the code is
// there and unused, and records its use.
func (s *Store) take(ctx context.Context, d *Definition, use Use) error {
	uses, unlock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	defer unlock()
	defs, err := s.definitions()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(defs, func(now Definition) bool {
		return now.ID == d.ID && bytes.Equal(now.Hash, d.Hash) && now.Slot == d.Slot
	}) {
		return ErrRevoked
	}
	switch state, _ := readSlot(uses, d.Slot, d.ID); state {
	case Unused:
	case Used:
		return ErrUsed
	case Revoked:
		return ErrRevoked
	default:
		return fmt.Errorf("%w: slot %d of %s is damaged", ErrNoRecord, d.Slot, usesFile)
	}
	return spend(uses, d.Slot, use)
}

// Uses returns the records of codes that let someone in after since, oldest
// first. It needs leave to read the file of uses alone.
func (s *Store) Uses(since time.Time) ([]Use, error) {
	f, err := s.openUses(os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read uses of break-glass codes: %w", err)
	}
	defer f.Close()
	var out []Use
	for slot := range MaxCodes {
		if state, use := readSlot(f, slot, ""); state == Used && use.At.After(since) {
			out = append(out, use)
		}
	}
	slices.SortStableFunc(out, func(a, b Use) int { return a.At.Compare(b.At) })
	return out, nil
}

func (d *Definition) hash(code Code) []byte {
	return argon2.IDKey([]byte(code.id+code.secret), d.Salt, d.Time, d.Memory, 1, hashLength)
}

// definitions reads the codes. A line that is damaged costs its own code alone.
func (s *Store) definitions() ([]Definition, error) {
	root, err := os.OpenRoot(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	defer root.Close()
	f, err := openRegular(root, codesFile, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open codes: %w", err)
	}
	defer f.Close()
	defs, err := parseDefinitions(f)
	if err != nil {
		return nil, fmt.Errorf("read codes: %w", err)
	}
	return defs, nil
}

// parseDefinitions reads lines of JSON. What is no definition is left out, and of
// two of one name or one slot the second.
func parseDefinitions(r io.Reader) ([]Definition, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxFile))
	lines.Buffer(nil, maxLine)
	var defs []Definition
	for lines.Scan() {
		var d Definition
		if json.Unmarshal(lines.Bytes(), &d) != nil || d.check() != nil || len(defs) == MaxCodes {
			continue
		}
		if slices.ContainsFunc(defs, func(o Definition) bool { return o.ID == d.ID || o.Slot == d.Slot }) {
			continue
		}
		defs = append(defs, d)
	}
	return defs, lines.Err()
}

// check bounds what a damaged file could make of a definition, the cost of its
// hash above all.
func (d *Definition) check() error {
	id, ok := normalize(d.ID)
	switch {
	case !ok || id != d.ID || len(id) != idLength:
		return errors.New("no name")
	case d.Slot < 0 || d.Slot >= MaxCodes:
		return errors.New("no slot")
	case len(d.Salt) != saltLength || len(d.Hash) != hashLength:
		return errors.New("no hash")
	case d.Time < 1 || d.Time > maxTime || d.Memory < 8 || d.Memory > maxHashSize:
		return errors.New("no cost")
	}
	return (&Request{Users: d.Users, Services: d.Services, Note: d.Note, Count: 1}).check()
}
