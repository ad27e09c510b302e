package callback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// twoHosts is a port that is carried to two hosts, by the states of the port there.
type twoHosts struct {
	*world
	origin string
	// dialed are the hosts that the port was dialed on.
	dialed []string
}

// carryToBoth holds a port. An error of a host says why nobody of this user listens there.
func carryToBoth(t *testing.T, state map[string]error) *twoHosts {
	t.Helper()
	h := &twoHosts{world: newWorld(t, nil)}
	c := NewCarrier(func(err error) (string, []string) { return err.Error(), nil }, slog.New(slog.DiscardHandler))
	c.ownedHost = func(h *Host, _ int) error { return state[h.Name] }
	tool, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "got ", r.URL) })}
	go server.Serve(tool)
	t.Cleanup(func() { server.Close() })
	c.dialHost = func(ctx context.Context, host *Host, _ int) (net.Conn, error) {
		h.dialed = append(h.dialed, host.Name)
		return new(net.Dialer).DialContext(ctx, "tcp", tool.Addr().String())
	}
	c.Add(&Host{Name: "devbox"})
	c.Add(&Host{Name: "devbox2"})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	if err := h.Carry(t.Context(), c, []int{port}); err != nil {
		t.Fatal(err)
	}
	h.origin = fmt.Sprintf("http://127.0.0.1:%d", port)
	return h
}

// One port of two hosts: a callback goes to the host whose tool waits, and nowhere as long as that
// is in doubt. Then the person chooses.
func TestOnePortOfTwoHosts(t *testing.T) {
	nobody, stranger := &OwnerError{Host: "h", Port: 1}, &OwnerError{Host: "h", Port: 1, Owners: []string{"7"}}
	away, silent := errors.New("no route to host"), &OwnerError{Host: "h", Err: errors.New("no shell")}
	for _, tt := range []struct {
		name          string
		first, second error
		want          string // the host, "choose", or nothing
	}{
		{"the first waits", nil, nobody, "devbox"},
		{"the second waits", nobody, nil, "devbox2"},
		{"a stranger on the first", stranger, nil, "devbox2"},
		{"both wait", nil, nil, "choose"},
		{"the first is away", away, nil, "choose"},
		{"the second does not tell", nil, silent, "choose"},
		{"nobody waits", nobody, nobody, ""},
		{"nobody waits, one is away", nobody, away, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := carryToBoth(t, map[string]error{"devbox": tt.first, "devbox2": tt.second})
			a := h.browse(http.MethodGet, h.origin+"/cb?code=c&state=s", "")
			switch tt.want {
			case "choose":
				h.checkText(a, 200, "Which machine is this for", "devbox2")
				if len(h.dialed) != 0 {
					t.Fatalf("before a choice, %v was dialed", h.dialed)
				}
				if strings.Contains(a.text, "code=c") {
					t.Error("the page has the code")
				}
				links := regexp.MustCompile(`href="(/sallyport-host/\w+)" rel="noreferrer">(\w+)<`).FindAllStringSubmatch(a.text, -1)
				if len(links) != 2 || links[1][2] != "devbox2" {
					t.Fatalf("the links are %q", links)
				}
				h.checkText(h.browse(http.MethodGet, h.origin+links[1][1], ""), 200, "got /cb?code=c&state=s")
				tt.want = "devbox2"
				h.browse(http.MethodGet, h.origin+choicePath+"GUESSED", "")
			case "":
				h.checkText(a, 502, "Not carried", "no tool waits for this")
			default:
				h.checkText(a, 200, "got /cb?code=c&state=s")
			}
			if got := strings.Join(h.dialed, " "); got != tt.want {
				t.Errorf("dialed %q, want %q", got, tt.want)
			}
		})
	}
}
