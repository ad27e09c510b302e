//go:build linux

package sshconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parseArchive reads the txtar format: text, then files that begin with "-- name --".
func parseArchive(text string) (comment string, files map[string]string) {
	files = make(map[string]string)
	var name string
	for line := range strings.Lines(text) {
		if inner, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(inner, " --\n") {
			name = strings.TrimSuffix(inner, " --\n")
			files[name] = ""
		} else if name == "" {
			comment += line
		} else {
			files[name] += line
		}
	}
	return comment, files
}

// query is one line of the file "queries" of a case: [NAME=VALUE ...] [user@]host keyword...
type query struct {
	env  []string
	host string
	// keywords are those that the case is about.
	keywords []string
}

func parseQuery(line string) query {
	var q query
	words := strings.Fields(line)
	for strings.Contains(words[0], "=") {
		q.env, words = append(q.env, words[0]), words[1:]
	}
	q.host, q.keywords = words[0], words[1:]
	return q
}

// expectedOf reads the file "expect" of a case: lines of host, keyword and value.
func expectedOf(text, host string) settingsByKeyword {
	out := make(settingsByKeyword)
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if fields[0] == host {
			out[fields[1]] = append(out[fields[1]], fields[2])
		}
	}
	return out
}

// compare compares our answer to one query with that of the oracle or, if there is an expectation,
// with that. It returns how many of the query's keywords are equal.
func (o *oracle) compare(t *testing.T, s sandbox, q query, expect string) (equal int) {
	got, gotErr := printed(t, s.resolver(t, &o.release, q.env), q.host)
	want, wantErr := o.run([]string{q.host}, q.env)
	if expect == "" && gotErr == nil && wantErr != nil {
		want, wantErr = o.runWithout(t, s, []string{q.host}, q.env)
	}
	wantKeys := want
	switch {
	case expect != "" && gotErr != nil:
		t.Errorf("%s: %v", q.host, gotErr)
		return 0
	case expect != "":
		wantKeys = expectedOf(expect, q.host)
	case (gotErr != nil) != (wantErr != nil):
		t.Errorf("%s: we say %v, ssh says %v", q.host, gotErr, wantErr)
		return 0
	}
	for _, k := range q.keywords {
		if fmt.Sprint(got[k]) != fmt.Sprint(wantKeys[k]) {
			t.Errorf("%s: %s = %q, want %q", q.host, k, got[k], wantKeys[k])
			continue
		}
		equal++
	}
	if expect == "" || o.modern() && wantErr == nil {
		for _, d := range o.differences(want, got) {
			t.Errorf("%s: %s", q.host, d)
		}
	}
	return equal
}

// Our reading of the cases in testdata is compared with that of the real ssh, keyword by keyword.
//
// A case has a file "queries". Its lines name the keywords that the case is about; all others are
// compared, too. A file "expect" says what is right in a case that an ssh before 10 reads in
// another way or refuses.
func TestCasesAgainstSSH(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	archives := make([]string, len(paths)) // read before the home directory is hidden
	for i, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = string(text)
	}
	o, s := newOracle(t), newSandbox(t)
	equal, checks := 0, 0
	for i, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			comment, files := parseArchive(archives[i])
			if strings.HasPrefix(comment, "without a final newline") {
				files["home/.ssh/config"] = strings.TrimSuffix(files["home/.ssh/config"], "\n")
			}
			s.fill(t, files)
			for line := range strings.Lines(files["queries"]) {
				q := parseQuery(line)
				checks += len(q.keywords)
				equal += o.compare(t, s, q, files["expect"])
			}
		})
	}
	t.Logf("%d of %d checks equal in %d cases", equal, checks, len(paths))
	if equal != checks {
		t.Fail()
	}
}
