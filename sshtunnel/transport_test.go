//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sshtunnel/sshconfig"
)

func TestInterleave(t *testing.T) {
	t.Parallel()
	addrs := func(words ...string) (list []netip.Addr) {
		for _, w := range words {
			list = append(list, netip.MustParseAddr(w))
		}
		return list
	}
	got := interleave(addrs("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "::ffff:192.0.2.2"))
	if want := addrs("2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAddressRace(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	type conn struct {
		net.Conn
		name string
	}
	for _, tt := range []struct {
		name  string
		dials string // of each: how long in ms, and whether it fails
		want  string
		after time.Duration
	}{
		{"the first", "a 10 ok, b 0 ok", "a", 10 * time.Millisecond},
		{"one that swallows packets does not hold up the others", "a 100000 no, b 100000 no, c 30 ok", "c", 2*addressDelay + 30*time.Millisecond},
		{"a refusal starts the next at once", "a 5 no, b 5 no, c 5 ok", "c", 15 * time.Millisecond},
		{"a slow first still wins", "a 300 ok, b 100 ok", "a", 300 * time.Millisecond},
		{"none", "a 5 no, b 5 no", "", 10 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var dials []func(context.Context) (net.Conn, error)
				for word := range strings.SplitSeq(tt.dials, ", ") {
					f := strings.Fields(word)
					d, _ := time.ParseDuration(f[1] + "ms")
					dials = append(dials, func(ctx context.Context) (net.Conn, error) {
						select {
						case <-time.After(d):
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						if f[2] == "no" {
							return nil, refused
						}
						return conn{name: f[0]}, nil
					})
				}
				began := time.Now()
				got, err := race(t.Context(), dials)
				if took := time.Since(began); took != tt.after {
					t.Errorf("took %v, want %v", took, tt.after)
				}
				switch {
				case tt.want == "" && (!errors.Is(err, refused) || err.Error() != "refused; refused"):
					t.Errorf("got %v", err)
				case tt.want != "" && (err != nil || got.(conn).name != tt.want):
					t.Errorf("got %v, %v, want %s", got, err, tt.want)
				}
			})
		})
	}
}

// A connection that comes when the race is over is closed.
func TestAddressRaceClosesLosers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		winner, _ := net.Pipe()
		got, err := race(t.Context(), []func(context.Context) (net.Conn, error){
			func(ctx context.Context) (net.Conn, error) {
				<-ctx.Done() // and yet
				return near, nil
			},
			func(context.Context) (net.Conn, error) { return winner, nil },
		})
		if err != nil || got != winner {
			t.Fatalf("got %v, %v", got, err)
		}
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Error("the loser is open")
		}
	})
}

func TestAddressRaceCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hang := func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		_, err := race(ctx, []func(context.Context) (net.Conn, error){hang, hang})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// AddressFamily and BindAddress decide how the first hop is reached.
func TestFamilyAndBindAddress(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, tt := range []struct {
		name, host, family, bind string
		from, want               string // the address it comes from, or the error
	}{
		{"any", "localhost", "any", "", "127.0.0.1", ""},
		{"inet", "localhost", "inet", "", "127.0.0.1", ""},
		{"inet6 has nobody listening", "::1", "inet6", "", "", "::1"},
		{"inet6 of an IPv4 address", "127.0.0.1", "inet6", "", "", "127.0.0.1"},
		{"bound", "localhost", "", "127.0.0.9", "127.0.0.9", ""},
		{"bound to *", "127.0.0.1", "", "*", "127.0.0.1", ""},
		{"bound to the other family", "127.0.0.1", "", "::1", "", "BindAddress ::1"},
		{"bound to what is not ours", "127.0.0.1", "", "192.0.2.1", "", "192.0.2.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &sshconfig.Host{HostName: tt.host, Port: ln.Addr().(*net.TCPAddr).Port, AddressFamily: tt.family, BindAddress: tt.bind}
			conn, err := dialTCP(t.Context(), h)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if from := conn.LocalAddr().(*net.TCPAddr).IP.String(); from != tt.from {
				t.Errorf("from %s, want %s", from, tt.from)
			}
		})
	}
}

// With ConnectionAttempts, a server that is not there is dialed again after a second.
func TestConnectionAttempts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		attempts int
		limit    time.Duration
		want     time.Duration
	}{
		{1, time.Hour, 0},
		{3, time.Hour, 2 * attemptPause},
		{3, attemptPause / 2, attemptPause / 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
			defer cancel()
			began := time.Now()
			// A socket in the bubble, but one that waits for nothing: the kernel refuses at once.
			_, err := (&dialer{host: &sshconfig.Host{HostName: "127.0.0.1", Port: 1, ConnectionAttempts: tt.attempts}}).dialTransport(ctx)
			if took := time.Since(began); err == nil || took != tt.want {
				t.Errorf("%d attempts within %v: %v after %v, want %v", tt.attempts, tt.limit, err, took, tt.want)
			}
		})
	}
}
