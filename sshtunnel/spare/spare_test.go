package spare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server is where the connections of a test lead to.
type server struct {
	t    *testing.T
	link any
	// lives is how long it lets a silent connection live. 0 means for ever.
	lives time.Duration
	// delay is how long an open takes.
	delay time.Duration
	// err is what an open fails with.
	err error
	// useless makes it refuse to be claimed.
	useless bool

	mu     sync.Mutex
	opened []*pipe
	live   int
}

// pipe is a connection to a server. The server's side is in the hands of the test.
type pipe struct {
	s  *server
	in chan []byte // from the server
	// ended is closed by either side.
	ended chan struct{}
	once  sync.Once
	// claimed and released count the calls.
	claimed, released atomic.Int32
	// sent is what came to the server.
	sent chan []byte
}

func (s *server) connect() *pipe {
	p := &pipe{s: s, in: make(chan []byte, 100), ended: make(chan struct{}), sent: make(chan []byte, 100)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, p)
	s.live++
	return p
}

// set changes the server.
func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *server) open(ctx context.Context, address string) (*Conn, error) {
	s.mu.Lock()
	delay := s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	err, lives, link := s.err, s.lives, s.link
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p := s.connect()
	if lives > 0 {
		time.AfterFunc(lives, func() {
			if p.claimed.Load() == 0 {
				p.Close()
			}
		})
	}
	return &Conn{
		Stream: p, Ended: p.ended, Link: link,
		Claim: func() bool {
			p.claimed.Add(1)
			s.mu.Lock()
			defer s.mu.Unlock()
			return !s.useless
		},
		Release: func() { p.released.Add(1) },
	}, nil
}

func (s *server) counts() (opened, live int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.opened), s.live
}

func (s *server) check(opened, live int) {
	s.t.Helper()
	synctest.Wait()
	if o, l := s.counts(); o != opened || l != live {
		s.t.Errorf("%d connections opened, %d live; want %d, %d", o, l, opened, live)
	}
}

// Read reads what the server has sent.
func (p *pipe) Read(b []byte) (int, error) {
	select {
	case chunk := <-p.in:
		return copy(b, chunk), nil
	default:
	}
	select {
	case chunk := <-p.in:
		return copy(b, chunk), nil
	case <-p.ended:
		return 0, io.EOF
	}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.sent <- bytes.Clone(b)
	return len(b), nil
}

func (p *pipe) CloseWrite() error { return nil }

func (p *pipe) Close() error {
	p.once.Do(func() {
		close(p.ended)
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		p.s.live--
	})
	return nil
}

// client is a stream in use, which something reads all the time.
type client struct {
	*pipe
	io.Writer
	got bytes.Buffer
}

// dial opens a connection as a Server does.
func dial(k *Keeper, s *server, name string) *client {
	p := s.connect()
	stream := k.Dialed(name, p, s.link)
	c := &client{pipe: p, Writer: stream}
	go io.Copy(&c.got, stream) // ends with p
	synctest.Wait()
	return c
}

// ask sends a request, and waits until it is answered.
func (c *client) ask() {
	c.Writer.Write([]byte("?"))
	c.in <- []byte("!")
	synctest.Wait()
}

// serveTwo shows that the server of an address serves two connections at once, and ends them.
func serveTwo(k *Keeper, s *server, name string) {
	a, b := dial(k, s, name), dial(k, s, name)
	a.ask()
	b.ask()
	b.ask()
	a.Close()
	b.Close()
	synctest.Wait()
}

// run runs f in a bubble with a Keeper of a server. Nothing may be left behind.
func run(t *testing.T, f func(t *testing.T, k *Keeper, s *server)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &server{t: t, link: "first"}
		k := New(ctx, s.open)
		f(t, k, s)
		cancel()
		k.Wait()
		synctest.Wait()
		if _, live := s.counts(); live != 0 {
			t.Errorf("%d connections are left", live)
		}
	})
}

func TestSpareIsTaken(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		serveTwo(k, s, "a:1")
		s.check(3, 1)
		spare := s.opened[2]
		spare.in <- []byte("welcome")
		synctest.Wait()
		c := k.Take(t.Context(), "a:1")
		if c == nil || spare.claimed.Load() != 1 || k.Count() != 0 {
			t.Fatalf("%v, claimed %d", c, spare.claimed.Load())
		}
		s.check(4, 2)
		if k.Count() != 1 {
			t.Errorf("%d spares", k.Count())
		}
		buf := make([]byte, 4) // less than what came
		var got []byte
		for len(got) < len("welcome") {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
		c.Write([]byte("request"))
		spare.in <- []byte(" and")
		synctest.Wait() // the goroutine that watched the spare has met it
		spare.in <- []byte(" an answer")
		spare.Close()
		rest, err := io.ReadAll(c)
		if string(got)+string(rest) != "welcome and an answer" || err != nil || string(<-spare.sent) != "request" {
			t.Errorf("%q%q, %v", got, rest, err)
		}
		if c.Release(); spare.released.Load() != 1 {
			t.Errorf("released %d times", spare.released.Load())
		}
	})
}

// What a server sends by itself is read up to a limit. The rest waits.
func TestMuchEarlyData(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		serveTwo(k, s, "a:1")
		spare := s.opened[2]
		var want []byte
		for i := range 2 * earlyBytes / 1000 {
			chunk := bytes.Repeat([]byte{byte('a' + i)}, 500)
			want = append(want, chunk...)
			spare.in <- chunk
			synctest.Wait()
		}
		c := k.Take(t.Context(), "a:1")
		synctest.Wait()
		spare.Close()
		if got, err := io.ReadAll(c); !bytes.Equal(got, want) || err != nil {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
	})
}

func TestEndedSpareIsNotTaken(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		serveTwo(k, s, "a:1")
		time.Sleep(10 * time.Second)
		s.set(func() { s.err = ErrNotNow })
		s.opened[2].Close()
		if c := k.Take(t.Context(), "a:1"); c != nil {
			t.Error("taken")
		}
		synctest.Wait()
		if c := k.Take(t.Context(), "a:1"); c != nil {
			t.Error("taken")
		}
	})
}

// A Keeper that takes part in the opening of a spare gets it, and the next one is opened behind it.
func TestSpareIsAwaited(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		s.set(func() { s.delay = time.Second })
		serveTwo(k, s, "a:1")
		began := time.Now()
		got := make(chan *Conn, 1)
		go func() { got <- k.Take(t.Context(), "a:1") }()
		synctest.Wait()
		if c := k.Take(t.Context(), "a:1"); c != nil || time.Since(began) > 0 {
			t.Error("a second one waits as well")
		}
		if c := <-got; c == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", c, time.Since(began))
		} else {
			c.Close()
		}
		s.check(3, 0)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { got <- k.Take(ctx, "a:1") }()
		synctest.Wait()
		cancel()
		if c := <-got; c != nil {
			t.Error("a caller that has left got a spare")
		}
		time.Sleep(time.Second)
		s.check(4, 1)
		// One that fails is not waited for any longer.
		s.set(func() { s.err = errors.New("refused") })
		k.Take(t.Context(), "a:1").Close()
		synctest.Wait()
		if c := k.Take(t.Context(), "a:1"); c != nil {
			t.Error("taken")
		}
		s.check(4, 0)
	})
}

// The spare is renewed as long as the address is in use, and no longer.
func TestSpareIsRenewedWhileHot(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		serveTwo(k, s, "a:1")
		time.Sleep(MaxAge - time.Millisecond)
		s.check(3, 1)
		time.Sleep(time.Millisecond)
		s.check(4, 1)
		k.Take(t.Context(), "a:1").Close()
		s.check(5, 1)
		time.Sleep(HotFor - time.Millisecond)
		s.check(8, 1)
		time.Sleep(MaxAge)
		s.check(8, 0)
		time.Sleep(time.Hour)
		s.check(8, 0)
		if c := k.Take(t.Context(), "a:1"); c != nil {
			t.Error("taken")
		}
		dial(k, s, "a:1").Close()
		s.check(10, 1) // what was seen of the server still holds
	})
}

// A server that closes silent connections after 10 s is left before that.
func TestAgeIsLearned(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		s.set(func() { s.lives = 10 * time.Second })
		serveTwo(k, s, "a:1")
		time.Sleep(10 * time.Second)
		s.check(4, 1)
		time.Sleep(8*time.Second - time.Millisecond)
		s.check(4, 1)
		time.Sleep(time.Millisecond)
		s.check(5, 1)
		time.Sleep(time.Hour)
		s.set(func() { s.lives = 0 })
		dial(k, s, "a:1").Close()
		synctest.Wait()
		opened, _ := s.counts()
		time.Sleep(MaxAge - time.Millisecond)
		s.check(opened, 1) // it does not hold for ever
	})
}

func TestServerThatClosesAtOnceGetsNoSpare(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		s.set(func() { s.lives = time.Second })
		serveTwo(k, s, "a:1")
		time.Sleep(time.Second)
		s.check(4, 0) // the second one shows that it was not the link
		dial(k, s, "a:1").Close()
		time.Sleep(time.Minute)
		s.check(5, 0)
	})
}

// The end of a link says nothing about the server.
func TestLostLinkTeachesNothing(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		serveTwo(k, s, "a:1")
		time.Sleep(5 * time.Second)
		s.set(func() { s.link = "second" })
		s.opened[2].Close()
		s.check(4, 1)
		time.Sleep(MaxAge - time.Millisecond)
		s.check(4, 1)
		s.set(func() { s.err = fmt.Errorf("%w: lost", ErrNotNow) })
		s.opened[3].Close()
		s.check(4, 0)
		s.set(func() { s.err = nil })
		dial(k, s, "a:1").Close()
		s.check(6, 1)
	})
}

func TestRefusedAddressHasNoSpare(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		s.set(func() { s.err = errors.New("refused") })
		serveTwo(k, s, "a:1")
		s.set(func() { s.err = nil })
		dial(k, s, "a:1").Close()
		s.check(3, 0)
		// A dial that was refused ends a spare, and the next one that succeeds brings it back.
		serveTwo(k, s, "b:1")
		s.check(6, 1)
		k.Failed("b:1")
		s.check(6, 0)
		dial(k, s, "b:1").Close()
		s.check(8, 1)
		k.Failed("never dialed")
	})
}

// A spare whose way is not good any more is closed, and another one is opened.
func TestUselessSpare(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		serveTwo(k, s, "a:1")
		s.set(func() { s.useless = true })
		if c := k.Take(t.Context(), "a:1"); c != nil {
			t.Error("taken")
		}
		s.check(4, 1)
	})
}

func TestNumberOfAddressesIsBounded(t *testing.T) {
	run(t, func(t *testing.T, k *Keeper, s *server) {
		for i := range MaxAddresses {
			serveTwo(k, s, fmt.Sprintf("a:%d", i))
			time.Sleep(time.Second)
		}
		s.check(3*MaxAddresses, MaxAddresses)
		k.Take(t.Context(), "a:0").Close()
		time.Sleep(time.Second)
		serveTwo(k, s, "a:99")
		if k.Count() != MaxAddresses || len(k.addresses) != MaxAddresses {
			t.Errorf("%d spares", k.Count())
		}
		if k.Take(t.Context(), "a:1") != nil {
			t.Error("the oldest is not forgotten")
		}
		k.Take(t.Context(), "a:0").Close()
	})
}

// A server that serves one connection after the other never gets a spare.
func TestOneAfterTheOther(t *testing.T) {
	tests := map[string]func(k *Keeper, s *server){
		"one, many requests": func(k *Keeper, s *server) {
			a := dial(k, s, "a:1")
			a.ask()
			a.ask()
			a.Close()
		},
		"one after the other": func(k *Keeper, s *server) {
			for range 5 {
				a := dial(k, s, "a:1")
				a.ask()
				a.ask()
				a.Close()
				synctest.Wait()
			}
		},
		"the second waits in the queue": func(k *Keeper, s *server) {
			a, b := dial(k, s, "a:1"), dial(k, s, "a:1")
			b.Writer.Write([]byte("?"))
			a.ask()
			a.ask()
			a.Close()
			b.ask()
			b.ask()
			b.Close()
		},
		"the end of the first is behind what its client does not take": func(k *Keeper, s *server) {
			p := s.connect()
			first := k.Dialed("a:1", p, s.link) // nobody reads
			first.Write([]byte("?"))
			p.in <- []byte("much")
			first.Read(make([]byte, 1))
			p.in <- []byte("more")
			p.Close()
			b := dial(k, s, "a:1")
			b.ask()
			b.ask()
			b.Close()
		},
		"the first was never answered": func(k *Keeper, s *server) {
			a, b := dial(k, s, "a:1"), dial(k, s, "a:1")
			b.ask()
			b.ask()
			a.Close()
			b.Close()
		},
		"the end of the first comes with the first answer on the second": func(k *Keeper, s *server) {
			a, b := dial(k, s, "a:1"), dial(k, s, "a:1")
			a.ask()
			b.Writer.Write([]byte("?"))
			b.in <- []byte("!")
			a.Close()
			synctest.Wait()
			b.ask()
			b.Close()
		},
		"the end of the first comes after the first answer on the second": func(k *Keeper, s *server) {
			a, b := dial(k, s, "a:1"), dial(k, s, "a:1")
			a.ask()
			b.ask()
			a.Close()
			synctest.Wait()
			b.ask()
			b.Close()
		},
		"the last bytes of the first come late": func(k *Keeper, s *server) {
			a, b := dial(k, s, "a:1"), dial(k, s, "a:1")
			a.ask()
			b.ask()
			b.Writer.Write([]byte("?"))
			a.in <- []byte("more")
			synctest.Wait()
			b.in <- []byte("!")
			synctest.Wait()
			a.Close()
			synctest.Wait()
			b.ask()
			b.Close()
		},
		"two links": func(k *Keeper, s *server) {
			a := dial(k, s, "a:1")
			s.set(func() { s.link = "second" })
			b := dial(k, s, "a:1")
			a.ask()
			b.ask()
			b.ask()
			a.Close()
			b.Close()
		},
		"two addresses": func(k *Keeper, s *server) {
			a, b := dial(k, s, "a:1"), dial(k, s, "a:2")
			a.ask()
			b.ask()
			b.ask()
			a.Close()
			b.Close()
		},
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, k *Keeper, s *server) {
				f(k, s)
				opened, _ := s.counts()
				time.Sleep(time.Minute)
				s.check(opened, 0)
				for _, name := range []string{"a:1", "a:2"} {
					if k.Take(t.Context(), name) != nil {
						t.Error("a spare")
					}
				}
			})
		})
	}
}
