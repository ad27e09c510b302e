package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// copyCallback is a program that BROWSER may name, as `copycallback FILE`. It is a browser on
// another machine: it says yes to everything, and then goes nowhere, because the callback leads to
// a port of this machine. The person copies its address to FILE.
func copyCallback() {
	file, link := os.Args[1], os.Args[2]
	client := http.Client{Transport: visitor(), CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Query().Has("code") {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := client.Get(link)
	if err != nil {
		fmt.Fprintf(os.Stderr, "copycallback: %v\n", err)
		return
	}
	defer resp.Body.Close()
	part := file + ".part" // the file is whole as soon as it has its name
	if err := os.WriteFile(part, []byte(resp.Header.Get("Location")+"\n"), 0o600); err == nil {
		os.Rename(part, file)
	}
}

// scriptCopied is `copied FILE`: the browser of copycallback has come to the callback. CALLBACK is
// its address, and STATE the state in it. The file stays until it is removed.
func scriptCopied(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(worldOf(ts).dir, args[0])
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil {
			callback := strings.TrimSpace(string(text))
			_, state, _ := strings.Cut(callback, "state=")
			state, _, _ = strings.Cut(state, "&")
			ts.Setenv("CALLBACK", callback)
			ts.Setenv("STATE", state)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no callback comes to %s", args[0])
		}
	}
}
