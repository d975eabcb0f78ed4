// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Limits of logs.
const (
	maxLogPage = 1000 // and the page of version 1, which has no limit
	maxFilter  = 100  // values of one filter
)

func (a *API) logRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET /admin/v1/logs/authentication":     a.authLogV1,
		"GET /admin/v2/logs/authentication":     a.authLogV2,
		"GET /admin/v1/logs/administrator":      a.adminLog,
		"GET /admin/v1/logs/telephony":          a.telephonyLogV1,
		"GET /admin/v2/logs/telephony":          a.telephonyLogV2,
		"GET /admin/v2/logs/activity":           a.activityLog,
		"GET /admin/v1/logs/offline_enrollment": a.offlineLog,
	}
}

// since reads mintime of version 1, in seconds.
func since(p gate.Params) (time.Time, error) {
	n, err := p.Int("mintime", 0, 0, math.MaxInt64/1_000_000)
	return time.Unix(int64(n), 0), err
}

// adminLog is paged by time: the client asks again from the last timestamp on.
func (a *API) adminLog(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.adminLogV1(ctx, r, store.AdminEventFilter{NotPrefix: audit.OfflineActions})
}

func (a *API) offlineLog(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.adminLogV1(ctx, r, store.AdminEventFilter{Prefix: audit.OfflineActions})
}

func (a *API) adminLogV1(ctx context.Context, r *gate.Request, f store.AdminEventFilter) (gate.Answer, error) {
	var err error
	if f.From, err = since(r.Params); err != nil {
		return gate.Answer{}, err
	}
	f.Limit = maxLogPage
	views := []adminEventView{}
	err = a.view(ctx, func(s store.Reader) error {
		events, err := s.AdminLog(f)
		views = views[:0]
		for _, e := range events {
			views = append(views, viewAdminEvent(e))
		}
		return err
	})
	return gate.Answer{Response: views}, err
}

func (a *API) authLogV1(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	from, err := since(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	views := []eventV1{}
	err = a.view(ctx, func(s store.Reader) error {
		events, err := s.Events(store.EventFilter{From: from, Limit: maxLogPage})
		views = views[:0]
		for _, e := range events {
			views = append(views, viewEventV1(e))
		}
		return err
	})
	return gate.Answer{Response: views}, err
}

type authLog struct {
	Events   []store.Event   `json:"authlogs"`
	Metadata authLogMetadata `json:"metadata"`
}

type authLogMetadata struct {
	NextOffset []string `json:"next_offset"` // time in ms and txid; null on the last page
	Total      int      `json:"total_objects"`
}

// authLogV2 pages by position: next_offset names the last event of the page, so
// that events that come meanwhile are neither skipped nor repeated.
func (a *API) authLogV2(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	f, none, err := a.authFilter(ctx, r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	out := authLog{Events: []store.Event{}}
	if none {
		return gate.Answer{Response: out}, nil
	}
	limit := f.Limit
	f.Limit++ // one more tells whether there is another page
	err = a.view(ctx, func(s store.Reader) (err error) {
		out = authLog{Events: []store.Event{}}
		if out.Metadata.Total, err = s.CountEvents(f); err != nil {
			return err
		}
		events, err := s.Events(f)
		out.Events = append(out.Events, events...)
		return err
	})
	if len(out.Events) > limit {
		out.Events = out.Events[:limit]
		last := out.Events[limit-1]
		out.Metadata.NextOffset = []string{strconv.FormatInt(last.Time.UnixMilli(), 10), last.TxID}
	}
	return gate.Answer{Response: out}, err
}

// logSpan is what the logs of version 2 have in common.
type logSpan struct {
	from, to  time.Time
	newest    bool
	limit     int
	afterTime time.Time
	afterID   string
}

func (a *API) logSpan(p gate.Params) (s logSpan, err error) {
	low, err := p.Int("mintime", 0, 0, math.MaxInt64/1_000_000)
	if err != nil {
		return s, err
	}
	high, err := p.Int("maxtime", int(a.Now().Add(time.Minute).UnixMilli()), 0, math.MaxInt64/1_000_000)
	if err != nil {
		return s, err
	}
	s.from, s.to = time.UnixMilli(int64(low)), time.UnixMilli(int64(high))
	limit, err := p.Int("limit", defaultPage, 1, math.MaxInt32)
	if err != nil {
		return s, err
	}
	s.limit = min(limit, maxLogPage)
	sort, err := p.OneOf("sort", "ts:desc", "ts:asc", "ts:desc")
	if err != nil {
		return s, err
	}
	s.newest = sort == "ts:desc"
	return s, s.offset(p)
}

// offset reads next_offset: both parts of a page's, joined by a comma or as a JSON list.
func (s *logSpan) offset(p gate.Params) error {
	parts, err := p.List("next_offset")
	if err != nil || len(parts) == 0 {
		return err
	}
	if len(parts) == 2 && parts[1] != "" && len(parts[1]) <= 64 {
		if at, err := strconv.ParseInt(parts[0], 10, 64); err == nil && at >= 0 && at <= math.MaxInt64/1_000_000 {
			s.afterTime, s.afterID = time.UnixMilli(at), parts[1]
			return nil
		}
	}
	return gate.Invalid("next_offset", "not the next_offset of an earlier page")
}

// authFilter reads the filters of the authentication log. None says that nothing
// can match.
func (a *API) authFilter(ctx context.Context, p gate.Params) (f store.EventFilter, none bool, err error) {
	span, err := a.logSpan(p)
	if err != nil {
		return f, false, err
	}
	f = store.EventFilter{
		From: span.from, To: span.to, Newest: span.newest, Limit: span.limit, AfterTime: span.afterTime, AfterTxID: span.afterID,
	}
	var numbers, tokens, credentials, registrations, risk []string
	for name, place := range map[string]*[]string{
		"users": &f.Users, "usernames": &f.Usernames, "groups": &f.Groups, "applications": &f.Integrations,
		"factors": &f.Factors, "results": &f.Results, "reasons": &f.Reasons, "event_types": &f.EventTypes,
		"phone_numbers": &numbers, "token_id": &tokens, "webauthnkey": &credentials, "registration_id": &registrations,
		"assessment": &risk, "detections": &risk,
	} {
		list, err := p.List(name)
		if err != nil {
			return f, false, err
		}
		if len(list) > maxFilter {
			return f, false, gate.Invalid(name, "more than 100 values")
		}
		*place = append(*place, list...)
	}
	f.Devices = slices.Concat(tokens, credentials, registrations)
	if len(numbers) > 0 {
		f.Phones, err = a.phonesOf(ctx, numbers)
		none = len(f.Phones) == 0
	}
	// Nothing here assesses risks, so no event bears an assessment.
	return f, none || len(risk) > 0, err
}

// phonesOf lists the ids of the phones with these numbers.
func (a *API) phonesOf(ctx context.Context, numbers []string) (ids []string, err error) {
	err = a.view(ctx, func(s store.Reader) error {
		ids = nil
		for _, n := range numbers {
			number, err := directory.Number(n)
			if err != nil || number == "" {
				return gate.Invalid("phone_numbers", "not numbers such as +15551234567")
			}
			phones, _, err := s.Phones(store.PhoneFilter{Number: number}, store.Page{Limit: maxPage})
			if err != nil {
				return err
			}
			for _, phone := range phones {
				ids = append(ids, phone.ID)
			}
		}
		return nil
	})
	return ids, err
}

type activityLog struct {
	Items    []activity       `json:"items"`
	Metadata activityMetadata `json:"metadata"`
}

type activityMetadata struct {
	NextOffset *string `json:"next_offset"` // null on the last page
}

// activityLog is the administrator log in the shape of the activity log.
func (a *API) activityLog(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	span, err := a.logSpan(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var events []store.AdminEvent
	err = a.view(ctx, func(s store.Reader) (err error) {
		events, err = s.AdminLog(store.AdminEventFilter{
			From: span.from, To: span.to, Newest: span.newest, Limit: span.limit + 1, AfterTime: span.afterTime, AfterID: span.afterID,
		})
		return err
	})
	out := activityLog{Items: []activity{}}
	if len(events) > span.limit {
		events = events[:span.limit]
		last := events[span.limit-1]
		next := strconv.FormatInt(last.Time.UnixMilli(), 10) + "," + last.ID
		out.Metadata.NextOffset = &next
	}
	for _, e := range events {
		out.Items = append(out.Items, viewActivity(e))
	}
	return gate.Answer{Response: out}, err
}

type adminEventView struct {
	Action       string `json:"action"`
	Description  string `json:"description"` // JSON in a string
	ISOTimestamp string `json:"isotimestamp"`
	Object       string `json:"object"`
	Timestamp    int64  `json:"timestamp"`
	Username     string `json:"username"`
}

func viewAdminEvent(e store.AdminEvent) adminEventView {
	return adminEventView{
		Action: e.Action, Description: string(e.Description), Object: e.Object, Username: e.Username,
		Timestamp: e.Time.Unix(), ISOTimestamp: e.Time.UTC().Format(time.RFC3339Nano),
	}
}

// activity is an entry of the activity log.
type activity struct {
	ID           string         `json:"activity_id"`
	TS           string         `json:"ts"`
	Action       activityAction `json:"action"`
	Actor        activityParty  `json:"actor"`
	Target       activityParty  `json:"target"`
	OldTarget    *activityParty `json:"old_target"`
	Application  *activityParty `json:"application"`
	AccessDevice activityDevice `json:"access_device"`
	Outcome      *struct{}      `json:"outcome"`
}

type activityAction struct {
	Name    string  `json:"name"`
	Details *string `json:"details"` // JSON in a string
}

type activityParty struct {
	Key     string  `json:"key"`
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	Details *string `json:"details"`
}

type activityDevice struct {
	IP activityAddress `json:"ip"`
}

type activityAddress struct {
	Address string `json:"address"`
}

func viewActivity(e store.AdminEvent) activity {
	var said struct {
		Integration string `json:"integration_key"`
		Address     string `json:"ip_address"`
	}
	// Every description is a JSON object; one that is not tells no more.
	_ = json.Unmarshal(e.Description, &said)
	details := string(e.Description)
	kind, _, _ := strings.Cut(e.Action, "_")
	v := activity{
		ID: e.ID, TS: e.Time.UTC().Format("2006-01-02T15:04:05.000000+00:00"),
		Action: activityAction{Name: e.Action, Details: &details},
		Actor:  activityParty{Key: said.Integration, Name: e.Username, Type: "system"},
		Target: activityParty{Name: e.Object, Type: kind},
	}
	v.AccessDevice.IP.Address = said.Address
	if said.Integration != "" {
		v.Actor.Type = "application"
		v.Application = &activityParty{Key: said.Integration, Name: e.Username, Type: string(store.AdminAPI)}
	}
	return v
}

// eventV1 is an authentication event in the flat shape of version 1.
type eventV1 struct {
	Timestamp    int64          `json:"timestamp"`
	ISOTimestamp string         `json:"isotimestamp"`
	EventType    string         `json:"eventtype"`
	Factor       string         `json:"factor"`
	Device       string         `json:"device"`
	Integration  string         `json:"integration"`
	IP           string         `json:"ip"`
	Host         string         `json:"host"`
	Location     store.Location `json:"location"`
	Reason       string         `json:"reason"`
	Result       string         `json:"result"`
	Username     string         `json:"username"`
	Email        string         `json:"email"`
	Alias        string         `json:"alias"`
	TxID         string         `json:"txid"`
	NewEnroll    bool           `json:"new_enrollment"`
}

// resultsV1 are the results of version 1.
var resultsV1 = map[string]string{"success": "SUCCESS", "denied": "FAILURE", "fraud": "FRAUD"}

func resultV1(result string) string {
	if v := resultsV1[result]; v != "" {
		return v
	}
	return "ERROR"
}

func viewEventV1(e store.Event) eventV1 {
	return eventV1{
		Timestamp: e.Timestamp, ISOTimestamp: e.ISOTimestamp, EventType: e.EventType, Factor: e.Factor,
		Device: e.AuthDevice.Name, Integration: e.Application.Name, IP: e.AccessDevice.IP, Host: e.AccessDevice.Hostname,
		Location: e.AccessDevice.Location, Reason: e.Reason, Result: resultV1(e.Result), Username: e.User.Name, Email: e.Email,
		Alias: e.Alias, TxID: e.TxID, NewEnroll: e.EventType == "enrollment",
	}
}
