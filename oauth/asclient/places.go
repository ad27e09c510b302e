package asclient

import (
	"cmp"
	"context"
	"iter"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	wellKnownResource = "/.well-known/oauth-protected-resource"
	wellKnownServer   = "/.well-known/oauth-authorization-server"
	wellKnownOpenID   = "/.well-known/openid-configuration"
)

const (
	// stallTime is how long a place may take before the next one is asked beside it.
	stallTime = 3 * time.Second
	// againTimeout is that of a metadata request to an origin that did not answer before.
	againTimeout = 5 * time.Second
	// hurriedTimeout is that of a metadata request if there is another server to ask.
	hurriedTimeout = 10 * time.Second
)

// placeAnswer is what came of asking one place for metadata.
type placeAnswer struct {
	rawURL   string
	attempt  Attempt
	document document
	// ok says that there is a document.
	ok bool
	// err says why no answer came. It is nil if one came, or if nothing was asked for.
	err error
	// busy says that the server is, and asks us to wait for retryAfter.
	busy       bool
	retryAfter time.Duration
}

// ask asks the places one after another, and yields what came of each. If a place takes longer
// than stallTime, the next one is asked beside it, so that a place that never answers holds up
// nothing. What is under way when the loop ends is given up.
func (d *search) ask(ctx context.Context, step string, places []string) iter.Seq[placeAnswer] {
	return func(yield func(placeAnswer) bool) {
		ctx, cancel := context.WithCancel(ctx)
		replies := make(chan placeAnswer, len(places))
		var fetches sync.WaitGroup // each ends with ctx
		defer fetches.Wait()
		defer cancel()
		for next, pending := 0, 0; next < len(places) || pending > 0; {
			if next < len(places) && ctx.Err() == nil {
				rawURL, timeout := places[next], d.timeout(places[next])
				fetches.Go(func() { replies <- d.fetch(ctx, step, rawURL, timeout) })
				next, pending = next+1, pending+1
			}
			var stalled <-chan time.Time // nil: there is no other place to ask
			if next < len(places) {
				stalled = time.After(stallTime)
			}
			select {
			case r := <-replies:
				pending--
				r = d.again(ctx, step, r)
				d.note(r)
				if !yield(r) || ctx.Err() != nil {
					return
				}
			case <-stalled:
			case <-ctx.Done():
				return
			}
		}
	}
}

// timeout returns how long a place may take.
func (d *search) timeout(rawURL string) time.Duration {
	u, err := url.Parse(rawURL)
	switch {
	case err == nil && slices.Contains(d.silent, origin(u)):
		return againTimeout
	case d.hurried:
		return hurriedTimeout
	}
	return replyTimeout
}

// fetch asks one place. It may be called concurrently.
func (d *search) fetch(ctx context.Context, step, rawURL string, timeout time.Duration) placeAnswer {
	r := placeAnswer{rawURL: rawURL}
	u, err := url.Parse(rawURL)
	if err == nil {
		err = requester{d.c}.allow(u)
	}
	if err != nil {
		// A server behind a TLS proxy names http URLs of itself. The well-known URLs are still
		// tried.
		r.attempt = Attempt{Step: step, URL: Quote(rawURL), Reason: "not requested: not an https URL"}
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	doc, a, err := requester{d.c}.getDocument(ctx, rawURL)
	r.attempt = Attempt{Step: step, URL: cut(WithoutQuery(u)), Status: a.status}
	if err != nil {
		r.attempt.Reason = err.Error()
	}
	d.c.log().Debug("metadata requested", "url", r.attempt.URL, "status", a.status, "err", err)
	if a.status == 0 {
		r.err = err
	}
	r.document, r.ok = doc, err == nil && a.status/100 == 2
	r.busy, r.retryAfter = a.busy, a.retryAfter
	return r
}

// again asks a place again that is busy and says until when. All pauses of one search together are
// bounded.
func (d *search) again(ctx context.Context, step string, r placeAnswer) placeAnswer {
	for {
		if !r.busy {
			return r
		}
		if again, err := d.pauses.wait(ctx, r.retryAfter); err != nil || !again {
			return r
		}
		r = d.fetch(ctx, step, r.rawURL, d.timeout(r.rawURL))
	}
}

// note notes what came of a place.
func (d *search) note(r placeAnswer) {
	d.f.Tried = append(d.f.Tried, r.attempt)
	if r.err == nil {
		return
	}
	d.err = cmp.Or(d.err, r.err)
	if u, err := url.Parse(r.rawURL); err == nil && isTimeout(r.err) {
		d.silent = append(d.silent, origin(u))
	}
}

// resourceMetadataURLs returns where the metadata of upstream may be: at its well-known path, then
// at the well-known root (RFC 9728 section 3.1).
func resourceMetadataURLs(upstream *url.URL) []string {
	root := origin(upstream)
	path := strings.TrimSuffix(upstream.EscapedPath(), "/")
	if path == "" {
		return []string{root + wellKnownResource}
	}
	return []string{root + wellKnownResource + path, root + wellKnownResource}
}

// serverMetadataURLs returns where the metadata of issuer may be, in the order of the MCP
// specification (Authorization Server Metadata Discovery). For an issuer with a path, more places
// follow, which the package comment explains. The last of them is the root, where the metadata may
// be that of another issuer.
func serverMetadataURLs(issuer *url.URL) []string {
	root := origin(issuer)
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	if path == "" {
		return []string{root + wellKnownServer, root + wellKnownOpenID}
	}
	list := []string{root + wellKnownServer + path, root + wellKnownOpenID + path,
		root + path + wellKnownOpenID, root + path + wellKnownServer}
	if strings.HasSuffix(issuer.EscapedPath(), "/") {
		list = append(list, root+wellKnownServer+path+"/", root+wellKnownOpenID+path+"/")
	}
	return append(list, root+wellKnownServer)
}

// absolute returns a URL that a peer named, for a request. Where it is no absolute URL, it is taken
// for one below base, or at base's origin if it begins with a slash. It is empty if that leads to
// another origin.
func absolute(rawURL, base string) string {
	u, err1 := url.Parse(rawURL)
	b, err2 := url.Parse(base)
	if rawURL == "" || err1 == nil && u.Scheme != "" || err2 != nil || b.Host == "" {
		return rawURL
	}
	if strings.HasPrefix(rawURL, b.Host+"/") { // the scheme was forgotten
		rawURL = "//" + rawURL
	}
	if u, err1 = url.Parse(rawURL); err1 != nil {
		return rawURL // which is refused by its name
	}
	b.Path, b.RawPath = strings.TrimSuffix(b.Path, "/")+"/", ""
	if u = b.ResolveReference(u); !SameOrigin(u, b) {
		return ""
	}
	return u.String()
}

// issuerAt returns the issuer that a resource names by the URL of its metadata. Any other URL is
// the issuer itself.
func issuerAt(rawURL string) string {
	for _, place := range []string{wellKnownServer, wellKnownOpenID} {
		if root, path, ok := strings.Cut(rawURL, place); ok && (path == "" || path[0] == '/') {
			return root + path
		}
	}
	return rawURL
}

// covers reports whether a resource identifier names upstream or a parent path of it.
func covers(resource string, upstream *url.URL) bool {
	r, err := url.Parse(resource)
	if err != nil || r.Fragment != "" || r.User != nil || !SameOrigin(r, upstream) {
		return false
	}
	if r.RawQuery != "" && r.RawQuery != upstream.RawQuery {
		return false
	}
	parent := strings.TrimSuffix(r.EscapedPath(), "/") + "/"
	return strings.HasPrefix(strings.TrimSuffix(upstream.EscapedPath(), "/")+"/", parent)
}
