package session

import (
	"fmt"
	"net/http"
	"sync"
)

// autoRoute sends a request directly, and through the tunnel if the direct dial itself fails,
// because an authorization server may be reachable from one side only. It then uses the tunnel for
// every later request to that origin. It never sends a request twice. It may be used concurrently.
type autoRoute struct {
	direct, via http.RoundTripper

	mu      sync.Mutex
	viaOnly map[string]bool // origins whose direct dial failed
}

func newAutoRoute(direct, via http.RoundTripper) *autoRoute {
	return &autoRoute{direct: direct, via: via, viaOnly: map[string]bool{}}
}

// RoundTrip implements http.RoundTripper.
func (a *autoRoute) RoundTrip(req *http.Request) (*http.Response, error) {
	origin := origin(req.URL)
	if a.usesVia(origin) {
		return a.via.RoundTrip(req)
	}
	// A second attempt needs the body once more, and only GetBody can tell it.
	second := req
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return a.direct.RoundTrip(req)
		}
		body, err := req.GetBody() // RoundTrip closes the first body, whether it was sent or not
		if err != nil {
			return nil, err
		}
		second = req.Clone(req.Context())
		second.Body = body
	}
	resp, err := a.direct.RoundTrip(req)
	if err == nil || !isDialError(err) || req.Context().Err() != nil {
		if second != req {
			second.Body.Close()
		}
		return resp, err
	}
	resp, viaErr := a.via.RoundTrip(second)
	if viaErr != nil {
		return nil, fmt.Errorf("directly: %w; through SSH: %w", err, viaErr)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.viaOnly[origin] = true
	return resp, nil
}

func (a *autoRoute) usesVia(origin string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.viaOnly[origin]
}
