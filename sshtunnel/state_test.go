package sshtunnel

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// attempts is a Config.Chain that fails, and remembers when it was asked.
type attempts struct {
	err error
	at  []time.Time // not locked: one attempt at a time, and synctest.Wait orders the rest
}

func (a *attempts) chain(context.Context) ([]*sshconfig.Host, error) {
	a.at = append(a.at, time.Now())
	return nil, a.err
}

func stateTunnel(t *testing.T, chain func(context.Context) ([]*sshconfig.Host, error)) *Tunnel {
	t.Helper()
	tun, err := New(Config{Chain: chain})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	return tun
}

// Attempts go on as long as somebody waits, further and further apart.
func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := &HopError{Hop: "bastion", Stage: StageConnect, Err: errors.New("no route to host")}
		a := &attempts{err: network}
		tun := stateTunnel(t, a.chain)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := tun.DialContext(ctx, "tcp", "x:1")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, network) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		long, distinct := 0, map[time.Duration]bool{}
		for i := 1; i < len(a.at); i++ {
			pause := a.at[i].Sub(a.at[i-1])
			if pause < minBackoff || pause > maxBackoff {
				t.Errorf("pause %d is %v", i, pause)
			}
			if i == 1 && pause > time.Second {
				t.Errorf("the first pause is %v", pause)
			}
			if i > 7 {
				distinct[pause] = true
				if pause >= maxBackoff/2 {
					long++
				}
			}
		}
		if long != len(a.at)-8 || len(distinct) < 10 {
			t.Errorf("%d attempts, %d pauses after the seventh of 15 s and more, %d different: want jitter of 15 to 30 s", len(a.at), long, len(distinct))
		}
		// Nobody waits any more.
		before := len(a.at)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(a.at) > before {
			t.Errorf("%d attempts for nobody", len(a.at)-before)
		}
		// A new call does not wait for the rest of a pause.
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tun.DialContext(ctx, "tcp", "x:1")
		synctest.Wait()
		if len(a.at) == before {
			t.Error("no attempt for a new call")
		}
	})
}

// An attempt that needs a person is made once for each call, at most every 30 s.
func TestNeedsPersonIsTriedForEachCall(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{&AuthError{NeedsPerson: true}, &hostkeys.Error{Unknown: true, NeedsPerson: true}} {
		synctest.Test(t, func(t *testing.T) {
			a := &attempts{err: cause}
			tun := stateTunnel(t, a.chain)
			began := time.Now()
			for time.Since(began) < 10*time.Minute {
				if _, err := tun.DialContext(t.Context(), "tcp", "x:1"); !errors.Is(err, cause) {
					t.Fatalf("got %v", err)
				}
				if st, _ := tun.State(); st.Phase != NeedsPerson {
					t.Fatalf("phase %s", st.Phase)
				}
				time.Sleep(7 * time.Second) // the next call of the host
			}
			for i := 1; i < len(a.at); i++ {
				if pause := a.at[i].Sub(a.at[i-1]); pause < personPause || pause > personPause+7*time.Second {
					t.Errorf("pause %d is %v", i, pause)
				}
			}
			if len(a.at) < 10 {
				t.Errorf("%d attempts in ten minutes", len(a.at))
			}
			// Without calls there are none.
			before := len(a.at)
			time.Sleep(time.Hour)
			if synctest.Wait(); len(a.at) > before {
				t.Errorf("%d attempts that nobody asked for", len(a.at)-before)
			}
			// Connect is a person's own doing, and need not wait.
			tun.Connect(t.Context())
			tun.Connect(t.Context())
			if len(a.at) != before+2 {
				t.Errorf("%d attempts by two Connects", len(a.at)-before)
			}
		})
	}
}

// After a refusal by a server or a file there is no other attempt, which could lock the account.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{&AuthError{}, &AuthError{TooMany: true}, &hostkeys.Error{Changed: true}, &hostkeys.Error{Revoked: true}, &sshconfig.Error{}} {
		synctest.Test(t, func(t *testing.T) {
			a := &attempts{err: cause}
			tun := stateTunnel(t, a.chain)
			for range 5 {
				if _, err := tun.DialContext(t.Context(), "tcp", "x:1"); !errors.Is(err, cause) {
					t.Fatalf("got %v", err)
				}
				time.Sleep(time.Hour)
			}
			if st, _ := tun.State(); len(a.at) != 1 || st.Phase != Refused {
				t.Errorf("%d attempts, phase %s", len(a.at), st.Phase)
			}
			if err := tun.Connect(t.Context()); !errors.Is(err, cause) || len(a.at) != 2 {
				t.Errorf("Connect: %v after %d attempts", err, len(a.at))
			}
		})
	}
}

// An attempt ends with the last call that waits for it, and the state is what it was.
func TestAbandonedAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var running, ended atomic.Int32
		tun := stateTunnel(t, func(ctx context.Context) ([]*sshconfig.Host, error) {
			running.Add(1)
			<-ctx.Done() // a person who does not answer
			ended.Add(1)
			return nil, context.Cause(ctx)
		})
		first, leave := context.WithCancel(t.Context())
		second, leaveToo := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for _, ctx := range []context.Context{first, second} {
			go func() {
				_, err := tun.DialContext(ctx, "tcp", "x:1")
				errs <- err
			}()
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		if st, _ := tun.State(); st.Phase != Dialing || ended.Load() != 0 {
			t.Errorf("phase %s although one still waits", st.Phase)
		}
		leaveToo()
		synctest.Wait()
		if st, _ := tun.State(); st.Phase != Idle || st.Err != nil || running.Load() != 1 || ended.Load() != 1 {
			t.Errorf("state %+v, %d attempts, %d ended", st, running.Load(), ended.Load())
		}
		for range 2 {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		// One who comes while the attempt ends gets one of his own.
		third, leaveThird := context.WithTimeout(t.Context(), time.Second)
		defer leaveThird()
		tun.DialContext(third, "tcp", "x:1")
		fourth, leaveFourth := context.WithTimeout(t.Context(), time.Minute)
		defer leaveFourth()
		tun.DialContext(fourth, "tcp", "x:1")
		synctest.Wait()
		if running.Load() != 3 || ended.Load() != 3 {
			t.Errorf("%d attempts, %d ended", running.Load(), ended.Load())
		}
	})
}
