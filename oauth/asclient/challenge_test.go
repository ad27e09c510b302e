package asclient

import (
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	type m = map[string]string
	for _, tt := range []struct {
		name   string
		header []string
		want   []challenge
	}{
		{"none", nil, nil},
		{"bare", []string{"Bearer"}, []challenge{{"bearer", m{}}}},
		{"parameters", []string{`Bearer realm="a, b", error=invalid_token ,scope="x y"`},
			[]challenge{{"bearer", m{"realm": "a, b", "error": "invalid_token", "scope": "x y"}}}},
		{"escapes", []string{`bearer realm="a\"b\\c"`}, []challenge{{"bearer", m{"realm": `a"b\c`}}}},
		{"empty value", []string{`Bearer error_description="", scope=x`}, []challenge{{"bearer", m{"error_description": "", "scope": "x"}}}},
		{"several in one", []string{`Basic realm="x", Bearer scope=y, Negotiate`},
			[]challenge{{"basic", m{"realm": "x"}}, {"bearer", m{"scope": "y"}}, {"negotiate", m{}}}},
		{"several headers", []string{`Negotiate YWJj==`, `BEARER Resource_Metadata="https://h/p?q=1"`},
			[]challenge{{"negotiate", m{}}, {"bearer", m{"resource_metadata": "https://h/p?q=1"}}}},
		{"token68 before ours", []string{`Negotiate YWJj==, Bearer scope=y`}, []challenge{{"negotiate", m{}}, {"bearer", m{"scope": "y"}}}},
		{"spaces around =", []string{`Bearer scope = "y"`}, []challenge{{"bearer", m{"scope": "y"}}}},
		{"first of a repeated one", []string{`Bearer scope=a, scope=b`}, []challenge{{"bearer", m{"scope": "a"}}}},
		{"unterminated", []string{`Bearer scope="y`}, []challenge{{"bearer", m{"scope": "y"}}}},
		{"rubbish beside ours", []string{`"x" =, ;;, Bearer scope=y`}, []challenge{{"bearer", m{"scope": "y"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseChallenges(tt.header); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A quoted parameter comes back as it was, whatever it holds.
func FuzzParseChallenges(f *testing.F) {
	f.Add("x y", `Basic realm="z", `)
	f.Add(`a"b\`, "Negotiate YWJj==,")
	f.Fuzz(func(t *testing.T, value, before string) {
		parseChallenges([]string{before + value})
		var quoted []byte
		for i := range len(value) {
			if value[i] == '"' || value[i] == '\\' {
				quoted = append(quoted, '\\')
			}
			quoted = append(quoted, value[i])
		}
		got := ReadChallenge(http.Header{"Www-Authenticate": {`Bearer scope="` + string(quoted) + `"`}})
		if got.Scope != value {
			t.Errorf("got %q, want %q", got.Scope, value)
		}
	})
}

// A peer may send megabytes. They are read in part, and what comes first counts.
func TestEndlessChallengeIsCut(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]string{
		"one value":   {`Bearer scope="x", error_description="` + strings.Repeat("y", 10<<20) + `"`},
		"parameters":  {`Bearer scope=x` + strings.Repeat(`, a=b`, 1<<20)},
		"challenges":  {`Bearer scope=x` + strings.Repeat(`, Basic`, 1<<20)},
		"many fields": append([]string{`Bearer scope=x`}, slices.Repeat([]string{`Negotiate YWJj`}, 1<<16)...),
	} {
		got := ReadChallenge(http.Header{"Www-Authenticate": values})
		if got.Scope != "x" || !got.Bearer || len(got.Description) > maxChallenge {
			t.Errorf("%s: got scope %q and %d bytes", name, got.Scope, len(got.Description))
		}
		if n := len(parseChallenges(values)); n > maxChallenges {
			t.Errorf("%s: %d challenges", name, n)
		}
	}
}

func TestUpstreamAsksWithAnotherStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		get, post string // status and challenge, or an error
		want      bool
	}{
		{"403 Bearer", "", true},
		{"400 Bearer scope=x", "", true},
		{"405", "401", true},
		{"405", "403 DPoP", true},
		{"reset", "401", true},
		{"403", "403 Basic", false},
		{"200", "200 Bearer", false},
		{"500 Bearer", "503", false},
	} {
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			how := tt.get
			if r.Method == http.MethodPost {
				how = tt.post
			}
			if how == "reset" {
				return nil, io.ErrUnexpectedEOF
			}
			status, ch, _ := strings.Cut(how, " ")
			n, _ := strconv.Atoi(status)
			return &http.Response{StatusCode: n, Header: http.Header{"Www-Authenticate": {ch}}, Body: http.NoBody}, nil
		})
		got, _, err := c.AskUpstream(t.Context())
		if (got != nil) != tt.want || err != nil {
			t.Errorf("GET %s, POST %s: got %+v, %v", tt.get, tt.post, got, err)
		}
	}
}
