package relaytest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fakeT notes what would have failed.
type fakeT struct {
	errors   []string
	cleanups []func()
}

func (f *fakeT) Helper()                      {}
func (f *fakeT) Errorf(s string, args ...any) { f.errors = append(f.errors, fmt.Sprintf(s, args...)) }
func (f *fakeT) Cleanup(c func())             { f.cleanups = append(f.cleanups, c) }

func TestServerFailsTheTest(t *testing.T) {
	tests := []struct {
		name     string
		script   []Exchange
		requests []string // bodies of POSTs
		want     string
	}{
		{"as expected", []Exchange{{Call: "a", Body: `{"method":"a"}`}}, []string{`{"method":"a"}`}, ""},
		{"never seen", []Exchange{{Call: "a"}}, nil, "never seen: POST a"},
		{"repeatable, never seen", []Exchange{{Call: "a", Repeat: true}}, nil, ""},
		{"not expected", nil, []string{`{"method":"b"}`}, "not expected: POST b"},
		{"twice", []Exchange{{Call: "a"}}, []string{`{"method":"a"}`, `{"method":"a"}`}, "not expected: POST a"},
		{"other body", []Exchange{{Call: "a", Body: `{"method":"a"}`}}, []string{`{"method":"a" }`}, "body"},
		{"header", []Exchange{{Header: map[string]string{"X-A": "1"}}}, []string{`{}`}, `header X-A is "", want "1"`},
		{"not JSON", []Exchange{{}}, []string{`{`}, "not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fakeT{}
			s := New(f, tt.script...)
			for _, body := range tt.requests {
				s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, URL, strings.NewReader(body)))
			}
			for _, c := range f.cleanups {
				c()
			}
			got := strings.Join(f.errors, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
