//go:build linux

package soak_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// host is an MCP host that counts the answers to each of its requests.
type host struct {
	in io.Writer

	mu      sync.Mutex
	waiting map[string]chan answer // by id
	strange []string               // lines that answer nothing that waits
}

// answer is what the server says to a request.
type answer struct {
	ID     json.RawMessage
	Result *struct{ Content []struct{ Text string } }
	Error  *struct {
		Code    int
		Message string
		Data    struct{ Kind string }
	}
}

// call sends a request and waits for its answer.
func (h *host) call(ctx context.Context, id, line string) (answer, error) {
	answered := make(chan answer, 1)
	h.mu.Lock()
	h.waiting[id] = answered
	_, err := io.WriteString(h.in, line+"\n")
	h.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case a := <-answered:
		return a, nil
	case <-ctx.Done():
		return answer{}, fmt.Errorf("request %s has no answer: %w", id, ctx.Err())
	}
}

// read takes the answers until out ends.
func (h *host) read(out io.Reader) {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err == nil && a.ID == nil {
			continue // a notification
		}
		h.mu.Lock()
		if answered := h.waiting[string(a.ID)]; answered != nil {
			delete(h.waiting, string(a.ID))
			answered <- a
		} else {
			h.strange = append(h.strange, line)
		}
		h.mu.Unlock()
	}
}
