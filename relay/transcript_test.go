package relay

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rogpeppe/go-internal/txtar"

	. "sallyport/relay/relaytest"
)

var update = flag.Bool("update", false, "rewrite the http and stdout sections of testdata/*.txtar")

// Each transcript has four sections. "host" holds the host's lines; each is sent when the relay has
// dealt with the one before. "server" holds the server's answers: "METHOD CALL [STATUS]", headers,
// and the body behind "> ". "http" is what reached the server and "stdout" what reached the host.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			section := func(name string) *txtar.File {
				for i := range a.Files {
					if a.Files[i].Name == name {
						return &a.Files[i]
					}
				}
				t.Fatalf("no section %s", name)
				return nil
			}
			var requests, stdout string
			synctest.Test(t, func(t *testing.T) {
				requests, stdout = play(t, string(section("host").Data), string(section("server").Data))
			})
			for name, got := range map[string]string{"http": requests, "stdout": stdout} {
				f := section(name)
				if *update {
					f.Data = []byte(got)
				} else if got != string(f.Data) {
					t.Errorf("%s:\n got\n%s\nwant\n%s", name, got, f.Data)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func play(t *testing.T, hostLines, script string) (requests, stdout string) {
	srv := New(t, parseScript(t, script)...)
	h := start(t, Config{Send: srv.Transport()})
	for line := range strings.Lines(hostLines) {
		h.send(strings.TrimSuffix(line, "\n"))
		synctest.Wait()
	}
	h.in.Close()
	if err := <-h.result; err != nil {
		t.Errorf("Run: %v", err)
	}
	var out bytes.Buffer
	for line := range h.lines {
		fmt.Fprintln(&out, line)
	}
	var reqs bytes.Buffer
	heads, bodies := srv.Headers(), srv.Bodies()
	for i, seen := range srv.Seen() {
		fmt.Fprintln(&reqs, seen)
		for _, k := range []string{"Accept", "Content-Type", "Mcp-Session-Id", "Mcp-Protocol-Version", "Last-Event-Id"} {
			if v := heads[i].Get(k); v != "" {
				fmt.Fprintf(&reqs, "%s: %s\n", k, v)
			}
		}
		if bodies[i] != "" {
			fmt.Fprintf(&reqs, "> %s\n", bodies[i])
		}
	}
	return reqs.String(), out.String()
}

func parseScript(t *testing.T, script string) (list []Exchange) {
	t.Helper()
	for block := range strings.SplitSeq(strings.TrimSpace(script), "\n\n") {
		lines := strings.Split(block, "\n")
		head := strings.Fields(lines[0])
		e := Exchange{Method: head[0], Set: map[string]string{}}
		for _, f := range head[1:] {
			if n, err := strconv.Atoi(f); err == nil {
				e.Status = n
			} else {
				e.Call = f
			}
		}
		for _, line := range lines[1:] {
			if body, ok := strings.CutPrefix(line, ">"); ok {
				e.Reply += strings.TrimPrefix(body, " ") + "\n"
			} else if k, v, ok := strings.Cut(line, ": "); !ok {
				t.Fatalf("bad line in script: %q", line)
			} else if k == "Content-Type" {
				e.Type = v
			} else {
				e.Set[k] = v
			}
		}
		list = append(list, e)
	}
	return list
}
