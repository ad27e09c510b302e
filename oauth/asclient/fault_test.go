package asclient

import (
	"net/http"
	"strings"
	"testing"
)

func TestFaultsInAnyShape(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		body, code, words string
	}{
		{`{"error":"invalid_grant","error_description":"dead"}`, "invalid_grant", "dead"},
		{`{"error":{"code":"E1","message":"dead"}}`, "E1", "dead"},
		{`{"error":{"code":401,"status":"UNAUTHENTICATED","message":"dead"}}`, "UNAUTHENTICATED", "dead"},
		{`{"errors":[{"code":"E1","detail":"dead"},{"code":"E2","detail":"more"}]}`, "E1", "dead: more"},
		{`{"errors":["E1","E2"]}`, "E1", ""},
		{`{"code":"E1","message":"dead"}`, "E1", "dead"},
		{`{"status":"BAD_REFRESH_TOKEN"}`, "BAD_REFRESH_TOKEN", ""},
		{`{"status":400,"message":"the token is dead"}`, "", "the token is dead"},
		{`{"error_code":"E1"}`, "E1", ""},
		{`{"message":"Unauthorized"}`, "Unauthorized", "Unauthorized"},
		{`{"type":"https://as.example/problems/1","title":"Dead token","status":400}`, "", "Dead token"},
		{`[{"error":"E1"}]`, "E1", ""},
		{`["E1"]`, "E1", ""},
		{`"E1"`, "E1", ""},
		{`E1`, "E1", ""},
		{`the token is dead`, "", "the token is dead"},
		{`error=E1&error_description=dead+token`, "E1", "dead token"},
		{"\xef\xbb\xbf" + ` {"error":"E1"}`, "E1", ""},
		{"\xff\xfe{\x00\"\x00e\x00r\x00r\x00\"\x00:\x00\"\x00E\x00\"\x00}\x00", "E", ""},
		{`{"error":"E1"} and more`, "E1", ""},
		{`{"ERROR":"E1"}`, "E1", ""},
		{`{"error":null,"code":"E1"}`, "E1", ""},
		{`{"error":true,"message":"the token is dead"}`, "", "the token is dead"},
		{``, "", ""},
		{`{}`, "", ""},
		{`[]`, "", ""},
		{`null`, "", ""},
		{`{"error":`, "", ""},
		{`<html>error</html>`, "", ""},
		{strings.Repeat(`[`, 5000), "", ""},
		{strings.Repeat(`{"error":`, 5000) + `1` + strings.Repeat(`}`, 5000), "", ""},
		{`{"error":"E1","x":"` + strings.Repeat("x", maxFault) + `"}`, "", ""},
	} {
		got := answer{status: 400, header: http.Header{}, body: []byte(tt.body)}.fault()
		if got.code != tt.code || got.words != tt.words {
			t.Errorf("%.80s: got %q, %q, want %q, %q", tt.body, got.code, got.words, tt.code, tt.words)
		}
	}
}

// An answer of success has a fault only if it names an error.
func TestFaultsOfSuccess(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"error":"E1"}`:                        "E1",
		`{"ok":false,"error":"E1"}`:             "E1",
		`{"success":false,"code":"E1"}`:         "E1",
		`error=E1`:                              "E1",
		`{"status":"success","code":"granted"}`: "",
		`{"message":"hello"}`:                   "",
		`plain`:                                 "",
		`{"error":""}`:                          "",
	} {
		if got := (answer{status: 200, body: []byte(body)}).fault().code; got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}
