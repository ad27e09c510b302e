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
	// via dials through the tunnel. It is nil without one.
	via http.RoundTripper

	// mu guards viaOnly.
	mu sync.Mutex
	// viaOnly holds the origins whose direct dial failed and that the tunnel reached.
	viaOnly map[string]bool
}

// newAutoRoute returns a route whose other side is via.
func newAutoRoute(via http.RoundTripper) *autoRoute {
	return &autoRoute{via: via, viaOnly: map[string]bool{}}
}

// send sends a request by direct first. The function unsent reports whether an error of direct
// proves that nothing was sent, and permits the tunnel.
func (a *autoRoute) send(req *http.Request, direct http.RoundTripper, unsent func(error) bool) (*http.Response, error) {
	origin := origin(req.URL)
	if a.usesVia(origin) {
		return a.via.RoundTrip(req)
	}
	// A second attempt needs the body again, and only GetBody gives it. A request without GetBody
	// has only the direct route.
	second := req
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return direct.RoundTrip(req)
		}
		body, err := req.GetBody() // RoundTrip closes the first body, whether it was sent or not
		if err != nil {
			return nil, err
		}
		second = req.Clone(req.Context())
		second.Body = body
	}
	resp, err := direct.RoundTrip(req)
	// Only a dial error proves that nothing was sent. After any other error the server may have
	// seen the request, and a token request must not run twice.
	if err == nil || !unsent(err) || req.Context().Err() != nil {
		if second != req {
			second.Body.Close()
		}
		return resp, err
	}
	resp, viaErr := a.via.RoundTrip(second)
	if viaErr != nil {
		return nil, fmt.Errorf("directly: %w; through SSH: %w", err, viaErr)
	}
	// The origin is noted only now: if both routes fail, the next request tries both again.
	a.mu.Lock()
	defer a.mu.Unlock()
	a.viaOnly[origin] = true
	return resp, nil
}

// usesVia reports whether requests to origin skip the direct dial.
func (a *autoRoute) usesVia(origin string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.viaOnly[origin]
}
