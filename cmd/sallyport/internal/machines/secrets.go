//go:build linux

package machines

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Secrets are those that a test knows, and all the text in which none of them may stand. Its
// methods may be called at once.
type Secrets struct {
	mu      sync.Mutex
	secrets map[string]string // secret -> what it is
	places  map[string]string // place -> its text
}

// NewSecrets knows no secret yet.
func NewSecrets() *Secrets {
	return &Secrets{secrets: map[string]string{}, places: map[string]string{}}
}

// Add adds a secret and returns it. what says what it is, for the failure.
func (s *Secrets) Add(what, secret string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret != "" {
		s.secrets[secret] = what
	}
	return secret
}

// Len is how many secrets there are.
func (s *Secrets) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.secrets)
}

// Keep takes a text to search. Texts of the same place are put together.
func (s *Secrets) Keep(place, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[place] += text
}

// KeepFiles takes the files below a directory to search.
func (s *Secrets) KeepFiles(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		s.Keep(path, string(text))
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Check fails the test for every secret that stands in a kept text, also as it stands in a URL or a
// form.
func (s *Secrets) Check(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for secret, what := range s.secrets {
		forms := slices.Compact([]string{secret, url.QueryEscape(secret), url.PathEscape(secret)})
		for place, text := range s.places {
			for _, form := range forms {
				if i := strings.Index(text, form); i >= 0 {
					t.Errorf("%s %q stands in %s: ...%.300q", what, form, place, text[max(0, i-150):])
				}
			}
		}
	}
}
