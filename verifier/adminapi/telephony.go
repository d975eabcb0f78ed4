// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// usedSince is how far back telephony_credits_used looks by default.
const usedSince = 30 * 24 * time.Hour

func (a *API) credits(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	var c store.Credits
	err := a.view(ctx, func(s store.Reader) (err error) {
		c, err = s.Credits()
		return err
	})
	return gate.Answer{Response: creditsView{c.Left}}, err
}

type creditsView struct {
	Credits int64 `json:"credits"` // store.Uncounted: calls and messages are not counted
}

func (a *API) setCredits(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if r.Params["credits"] == "" {
		return gate.Answer{}, gate.Missing("credits")
	}
	left, err := r.Params.Int("credits", 0, store.Uncounted, math.MaxInt32)
	if err != nil {
		return gate.Answer{}, err
	}
	alert, err := a.Directory.SetCredits(ctx, actor(r), int64(left))
	if err != nil {
		return gate.Answer{}, err
	}
	alert.Log(a.Log)
	return gate.Answer{Response: creditsView{int64(left)}}, nil
}

func (a *API) creditsUsed(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	const most = math.MaxInt64 / 1_000_000_000
	now := a.Now()
	from, err := r.Params.Int("mintime", int(now.Add(-usedSince).Unix()), 0, most)
	if err != nil {
		return gate.Answer{}, err
	}
	to, err := r.Params.Int("maxtime", int(now.Unix()), 0, most)
	if err != nil {
		return gate.Answer{}, err
	}
	var used int64
	err = a.view(ctx, func(s store.Reader) (err error) {
		used, err = s.CreditsUsed(time.Unix(int64(from), 0), time.Unix(int64(to)+1, 0))
		return err
	})
	return gate.Answer{Response: map[string]int64{"telephony_credits_used": used}}, err
}

type telephonyV1 struct {
	Context      string `json:"context"`
	Credits      int64  `json:"credits"`
	ISOTimestamp string `json:"isotimestamp"`
	Phone        string `json:"phone"`
	Timestamp    int64  `json:"timestamp"`
	Type         string `json:"type"`
	TxID         string `json:"txid"`
}

// telephonyLogV1 is paged by time: the client asks again from the last timestamp on.
func (a *API) telephonyLogV1(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	since, err := r.Params.Int("mintime", 0, 0, math.MaxInt64/1_000_000)
	if err != nil {
		return gate.Answer{}, err
	}
	views := []telephonyV1{}
	err = a.view(ctx, func(s store.Reader) error {
		entries, err := s.TelephonyEntries(store.TelephonyFilter{From: time.Unix(int64(since), 0), Limit: 1000})
		views = views[:0]
		for _, e := range entries {
			views = append(views, telephonyV1{
				Context: e.Context, Credits: e.Credits, ISOTimestamp: e.Time.UTC().Format(isoMicros), Phone: e.Phone,
				Timestamp: e.Time.Unix(), Type: e.Type, TxID: e.TxID,
			})
		}
		return err
	})
	return gate.Answer{Response: views}, err
}

const isoMicros = "2006-01-02T15:04:05.000000+00:00"

type telephonyV2 struct {
	ID      string `json:"telephony_id"`
	TxID    string `json:"txid"`
	Time    string `json:"ts"`
	Context string `json:"context"`
	Type    string `json:"type"`
	Phone   string `json:"phone"`
	Credits int64  `json:"credits"`
}

type telephonyLog struct {
	Items    []telephonyV2 `json:"items"`
	Metadata struct {
		NextOffset *string `json:"next_offset"` // time in µs and telephony_id; null on the last page
		Total      int     `json:"total_objects"`
	} `json:"metadata"`
}

// telephonyLogV2 pages by position, as the authentication log does.
func (a *API) telephonyLogV2(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	f, err := a.telephonyFilter(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	limit := f.Limit
	f.Limit++ // one more tells whether there is another page
	var entries []store.TelephonyEntry
	err = a.view(ctx, func(s store.Reader) (err error) {
		entries, err = s.TelephonyEntries(f)
		return err
	})
	out := telephonyLog{Items: []telephonyV2{}}
	if len(entries) > limit {
		entries = entries[:limit]
		last := entries[limit-1]
		next := strconv.FormatInt(last.Time.UnixMicro(), 10) + "," + last.ID
		out.Metadata.NextOffset = &next
	}
	for _, e := range entries {
		out.Items = append(out.Items, telephonyV2{
			ID: e.ID, TxID: e.TxID, Time: e.Time.UTC().Format(isoMicros), Context: e.Context, Type: e.Type, Phone: e.Phone, Credits: e.Credits,
		})
	}
	out.Metadata.Total = len(out.Items)
	return gate.Answer{Response: out}, err
}

func (a *API) telephonyFilter(p gate.Params) (f store.TelephonyFilter, err error) {
	const most = math.MaxInt64 / 1_000_000
	low, err := p.Int("mintime", 0, 0, most)
	if err != nil {
		return f, err
	}
	high, err := p.Int("maxtime", int(a.Now().Add(time.Minute).UnixMilli()), 0, most)
	if err != nil {
		return f, err
	}
	f.From, f.To = time.UnixMilli(int64(low)), time.UnixMilli(int64(high))
	limit, err := p.Int("limit", 100, 1, math.MaxInt32)
	if err != nil {
		return f, err
	}
	f.Limit = min(limit, 1000)
	sort, err := p.OneOf("sort", "ts:desc", "ts:asc", "ts:desc")
	if err != nil {
		return f, err
	}
	f.Newest = sort == "ts:desc"
	next, err := p.String("next_offset", maxText)
	if err != nil || next == "" {
		return f, err
	}
	at, id, ok := strings.Cut(next, ",")
	micros, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || id == "" {
		return f, gate.Invalid("next_offset", "not the next_offset of an earlier page")
	}
	f.AfterTime, f.AfterID = time.UnixMicro(micros), id
	return f, nil
}
