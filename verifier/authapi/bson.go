// SPDX-License-Identifier: Apache-2.0

package authapi

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
)

// EncodingOf is the encoding of a path of the API: BSON for the legacy paths
// that end in .bson, whatever the answer is.
func EncodingOf(path string) gate.Encoding {
	if strings.HasPrefix(path, legacyPrefix) && strings.HasSuffix(path, ".bson") {
		return encodeBSON
	}
	return nil
}

// encodeBSON makes the document that libduo reads. That reader exits the process
// which it runs in (sudo, sshd) at what it does not know, and takes a string only
// as 0x02, an object only as 0x03 and a code only as an int32: no other types
// leave here, and the whole document is the whole body.
func encodeBSON(a gate.Answer, e *duoapi.Error) ([]byte, string, error) {
	doc := bson.D{{Key: "stat", Value: "OK"}}
	if e != nil {
		doc = bson.D{{Key: "stat", Value: "FAIL"}, {Key: "code", Value: int32(e.Code)}, {Key: "message", Value: bsonText(e.Message)}}
		if e.Detail != "" {
			doc = append(doc, bson.E{Key: "message_detail", Value: bsonText(e.Detail)})
		}
	} else {
		response, err := bsonResponse(a.Response)
		if err != nil {
			return nil, "", err
		}
		doc = append(doc, bson.E{Key: "response", Value: response})
	}
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil, "", fmt.Errorf("encode BSON: %w", err)
	}
	return body, "application/bson", nil
}

// bsonResponse is a text or an object of texts. Anything else is a mistake of this program.
func bsonResponse(response any) (any, error) {
	switch r := response.(type) {
	case string:
		return bsonText(r), nil
	case legacyAnswer:
		return r.document(), nil
	}
	return nil, fmt.Errorf("encode BSON: an answer of type %T", response)
}

// bsonText is text that a C string can hold.
func bsonText(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	return strings.ReplaceAll(s, "\x00", "?")
}

// document are the members that are set, in a fixed order.
func (a legacyAnswer) document() bson.D {
	doc := bson.D{}
	for _, m := range []struct{ name, value string }{{"result", a.Result}, {"status", a.Status}, {"txid", a.TxID}, {"prompt", a.Prompt}} {
		if m.value != "" {
			doc = append(doc, bson.E{Key: m.name, Value: bsonText(m.value)})
		}
	}
	if a.Factors == nil {
		return doc
	}
	factors := bson.D{}
	for _, name := range a.factorNames() {
		factors = append(factors, bson.E{Key: bsonText(name), Value: bsonText(a.Factors[name])})
	}
	return append(doc, bson.E{Key: "factors", Value: factors})
}
