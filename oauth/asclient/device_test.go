package asclient

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"
)

// startDevice asks for a device code of a newly registered client.
func startDevice(t *testing.T, c *Client, f Finding) (Credentials, Device) {
	t.Helper()
	r, err := c.Register(t.Context(), f, Application{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.StartDevice(t.Context(), f.Server, r.Credentials, Wanted{Resource: f.Resource.ID})
	if err != nil {
		t.Fatal(err)
	}
	return r.Credentials, d
}

func TestDeviceTokenIsAskedForAtTheServersPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		as, c := newServer(t, func(k *oauthtest.Knobs) {
			k.DeviceAnswers = []string{"authorization_pending", "slow_down", "authorization_pending"}
		})
		c.Now = time.Now
		as.Now = time.Now
		f := find(t, c)
		who, d := startDevice(t, c, f)
		begin := time.Now()
		if d.Interval != 3*time.Second || !d.Expires.Equal(begin.Add(10*time.Minute)) || d.UserCode == "" ||
			!strings.HasPrefix(d.CompleteURI, d.URI) {
			t.Errorf("got %+v", d)
		}
		k, err := c.AwaitDevice(t.Context(), f.Server, who, d, nil)
		if err != nil || k.Access == "" {
			t.Fatal(err)
		}
		var got []time.Duration
		for _, at := range as.Polls() {
			got = append(got, at.Sub(begin)/time.Second)
		}
		want := []time.Duration{3, 6, 14, 22} // slow_down adds five seconds for good
		if len(got) != len(want) || got[1] != want[1] || got[3] != want[3] {
			t.Errorf("asked after %d seconds, want %d", got, want)
		}
	})
}

func TestDeviceCodeThatNobodyApproves(t *testing.T) {
	for name, answer := range map[string]string{"the server says so": "expired_token", "the clock says so": "authorization_pending"} {
		synctest.Test(t, func(t *testing.T) {
			as, c := newServer(t, func(k *oauthtest.Knobs) {
				for range 1000 {
					k.DeviceAnswers = append(k.DeviceAnswers, answer)
				}
			})
			c.Now, as.Now = time.Now, time.Now
			f := find(t, c)
			who, d := startDevice(t, c, f)
			_, err := c.AwaitDevice(t.Context(), f.Server, who, d, nil)
			if e, ok := errors.AsType[*SignInError](err); !ok || !errors.Is(err, ErrCodeExpired) || e.Refused || e.Stage != StageAuthorize {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}

func TestDeviceGrantThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		as, c := newServer(t, func(k *oauthtest.Knobs) { k.DeviceAnswers = []string{"access_denied"} })
		c.Now, as.Now = time.Now, time.Now
		f := find(t, c)
		who, d := startDevice(t, c, f)
		_, err := c.AwaitDevice(t.Context(), f.Server, who, d, nil)
		if e, ok := errors.AsType[*SignInError](err); !ok || e.Code != "access_denied" || !e.Refused {
			t.Errorf("got %v", err)
		}
	})
}

// A network that is away for a while does not end the wait; its end does.
func TestDeviceWaitOutlastsTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		as, c := newServer(t, func(*oauthtest.Knobs) {})
		c.Now, as.Now = time.Now, time.Now
		f := find(t, c)
		who, d := startDevice(t, c, f)
		web, broken := c.Other, 2
		c.Other = roundTripper(func(r *http.Request) (*http.Response, error) {
			if broken--; broken >= 0 {
				return nil, errors.New("down")
			}
			return web.RoundTrip(r)
		})
		if k, err := c.AwaitDevice(t.Context(), f.Server, who, d, nil); err != nil || k.Access == "" {
			t.Errorf("got %v", err)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if _, err := c.AwaitDevice(ctx, f.Server, who, d, nil); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDeviceAnswersThatAreNotShown(t *testing.T) {
	const good = `{"device_code":"d","user_code":"WDJB","verification_uri":"https://as.example/d",
		"verification_uri_complete":"https://as.example/d?c=WDJB"}`
	for _, tt := range []struct{ name, old, new, want string }{
		{"all is well", "WDJB", "ABCD", ""},
		{"cleartext", `"https://as.example/d"`, `"http://as.example/d"`, CodeInsecureURL},
		{"a script", `"https://as.example/d"`, `"javascript:alert(1)"`, CodeInsecureURL},
		{"complete link in cleartext", "https://as.example/d?", "http://as.example/d?", ""},
		{"complete link is a script", "https://as.example/d?", "javascript:alert(1)//", ""},
		{"a code for the terminal", `"WDJB"`, `"\u001b[2J"`, CodeBadReply},
		{"an endless code", `"WDJB"`, `"` + strings.Repeat("A", maxUserCode+1) + `"`, CodeBadReply},
		{"no code", `"WDJB"`, `""`, CodeBadReply},
	} {
		c := testClient(t, func(*http.Request) (*http.Response, error) {
			return reply(strings.ReplaceAll(good, tt.old, tt.new)), nil
		})
		s := Server{Issuer: testIssuer, DeviceEndpoint: "https://as.example/device"}
		d, err := c.StartDevice(t.Context(), s, Credentials{}, Wanted{})
		e, ok := errors.AsType[*SignInError](err)
		if ok != (tt.want != "") || ok && e.Code != tt.want {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if err == nil && !strings.HasPrefix(d.CompleteURI, "https://as.example/d") {
			t.Errorf("%s: shows %q", tt.name, d.CompleteURI)
		}
		if err == nil && (d.Interval != pollInterval || !d.Expires.Equal(start.Add(deviceLife))) {
			t.Errorf("%s: without times of its own it is %+v", tt.name, d)
		}
	}
}
