package asclient

import (
	"net/http"
	"reflect"
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
