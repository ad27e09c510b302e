package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, in string
		kind     Kind
		id       string
		method   string
	}{
		{"request", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, Request, "1", "ping"},
		{"id last, nested ids", `{"method":"m","params":{"id":5,"method":"n"},"id":"a"}`, Request, `"a"`, "m"},
		{"repeated id", `{"id":1,"method":"m","id":2}`, Request, "2", "m"},
		{"escaped key", `{"\u0069d":1,"method":"m"}`, Request, "1", "m"},
		{"notification", `{"method":"m"}`, Notification, "", "m"},
		{"result", `{"id":1,"result":null}`, Response, "1", ""},
		{"error", `{"id":null,"error":{}}`, Response, "null", ""},
		{"null id", `{"id":null,"method":"m"}`, Invalid, "null", "m"},
		{"method not a string", `{"id":1,"method":5}`, Invalid, "1", ""},
		{"batch", `[{"id":1,"method":"m"}]`, Batch, "", ""},
		{"space around", " \t{\"method\":\"m\"} \n", Notification, "", "m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Parse([]byte(tt.in))
			if err != nil || m.Kind != tt.kind || string(m.ID) != tt.id || m.Method != tt.method || string(m.Raw) != strings.Trim(tt.in, " \t\n") {
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
}

func TestIDKey(t *testing.T) {
	for _, same := range [][2]string{{`"a"`, `"\u0061"`}, {`1`, `1.0`}, {`100`, `1e2`}, {`"é"`, `"\u00e9"`}} {
		if IDKey([]byte(same[0])) != IDKey([]byte(same[1])) {
			t.Errorf("%s and %s differ", same[0], same[1])
		}
	}
	for _, other := range [][2]string{{`1`, `"1"`}, {`9007199254740993`, `9007199254740992`}, {`"a"`, `"A"`}} {
		if IDKey([]byte(other[0])) == IDKey([]byte(other[1])) {
			t.Errorf("%s and %s are the same", other[0], other[1])
		}
	}
}

// Parse agrees with encoding/json on what JSON is, changes nothing but line breaks and the white
// space around, and finds the same members.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":[1,2.5e-3,-0,true,false,null,"\ud800\n"]}}`,
		"{\r\n \"id\" : \"x\",\n\"result\":{}}", `[{"id":1},{}]`, "\ufeff{}", `{"id":01}`, `{"a":"` + "\x1f" + `"}`, `"\u00zz"`, `-`, `1.e5`, `{"a" 1}`, `[1,]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		plain := bytes.TrimPrefix(in, bom)
		m, err := Parse(bytes.Clone(in))
		if (err == nil) != json.Valid(plain) {
			t.Fatalf("parse: %v, json.Valid %v: %q", err, json.Valid(plain), plain)
		}
		if err != nil {
			if !errors.As(err, new(*SyntaxError)) {
				t.Errorf("error %T", err)
			}
			return
		}
		if want := dropBreaks(bytes.Trim(plain, " \t\r\n")); !bytes.Equal(m.Raw, want) {
			t.Errorf("raw %q, want %q", m.Raw, want)
		}
		var obj map[string]json.RawMessage
		if json.Unmarshal(m.Raw, &obj) == nil && obj != nil && !bytes.Equal(obj["id"], m.ID) {
			t.Errorf("id %q, want %q", m.ID, obj["id"])
		}
		for key, want := range obj {
			if !utf8.Valid(in) {
				break // encoding/json replaces what it cannot read; we do not
			}
			if got := Member(bytes.TrimSpace(m.Raw), key); !bytes.Equal(got, want) {
				t.Errorf("member %q: %q, want %q", key, got, want)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []int{100, 8 << 20} {
		line := []byte(`{"jsonrpc":"2.0","id":7,"result":{"text":"` + strings.Repeat("x", size) + `"}}`)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			for b.Loop() {
				if m, err := Parse(line); err != nil || !bytes.Equal(m.ID, []byte("7")) {
					b.Fatal(err)
				}
			}
		})
	}
}
