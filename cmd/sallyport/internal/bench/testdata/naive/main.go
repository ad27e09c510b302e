// Naive carries JSON-RPC lines between stdio and the URL that it is given. It has none of a proxy's
// duties: no sign-in, no end of the session, no errors in answers, no check of what comes back. In
// the benchmark it is the least that a simple proxy written in Go costs.
package main

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var out sync.Mutex
	var session sync.Map // "id" once the server has given one
	carry := func(line []byte) {
		req, err := http.NewRequest(http.MethodPost, os.Args[1], bytes.NewReader(line))
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if id, ok := session.Load("id"); ok {
			req.Header.Set("Mcp-Session-Id", id.(string))
		}
		resp, err := client.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
			session.Store("id", id)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			log.Fatal(err)
		}
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
			_, body, _ = bytes.Cut(body, []byte("data: "))
		}
		if body = bytes.TrimSpace(body); len(body) == 0 {
			return
		}
		out.Lock()
		defer out.Unlock()
		os.Stdout.Write(append(body, '\n'))
	}
	in := bufio.NewReaderSize(os.Stdin, 64<<10)
	var calls sync.WaitGroup
	for first := true; ; first = false {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 && first {
			carry(line) // initialize: the session comes with its answer
		} else if len(line) > 0 {
			calls.Go(func() { carry(line) })
		}
		if err != nil {
			break
		}
	}
	calls.Wait()
}
