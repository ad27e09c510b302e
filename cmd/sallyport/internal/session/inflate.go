package session

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	// maxRatio is how many bytes one compressed byte may become, once inflateFree of them have
	// come. Gzip can make a thousand. JSON with many repetitions comes to thirty or so.
	maxRatio    = 128
	inflateFree = 8 << 20
)

// errInflated ends an answer that is a small text in few bytes only to become a large one here.
var errInflated = fmt.Errorf("the answer is compressed more than %d-fold "+
	`(--header "Accept-Encoding: identity" asks for one that is not compressed)`, maxRatio)

// askForGzip asks for an answer with gzip, unless the request says by itself what it takes. It
// reports whether it did. An http.Transport would do the same. But then nobody could tell how much
// an answer has grown.
func askForGzip(req *http.Request) bool {
	if req.Header.Get("Accept-Encoding") != "" || req.Header.Get("Range") != "" || req.Method == http.MethodHead {
		return false
	}
	req.Header.Set("Accept-Encoding", "gzip")
	return true
}

// inflate takes the compression off the answer to a request of askForGzip.
func inflate(resp *http.Response) {
	if !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		return
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength, resp.Uncompressed = -1, true
	resp.Body = &inflatedBody{body: resp.Body}
}

// inflatedBody is a body without its compression. As any body it is read by one goroutine.
type inflatedBody struct {
	body io.ReadCloser
	// gzip is nil before the first Read.
	gzip *gzip.Reader
	// in and out are how many bytes were read of body, and have come of them.
	in, out int64
	// err is what every further Read returns.
	err error
}

// Read implements io.Reader.
func (b *inflatedBody) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.gzip == nil {
		if b.gzip, b.err = gzip.NewReader(compressed{b}); b.err != nil {
			return 0, b.err
		}
	}
	n, b.err = b.gzip.Read(p)
	if b.out += int64(n); b.out > inflateFree+maxRatio*b.in {
		b.err = errInflated
	}
	return n, b.err
}

// Close implements io.Closer.
func (b *inflatedBody) Close() error { return b.body.Close() }

// compressed counts what is read of the body as it came.
type compressed struct{ *inflatedBody }

// Read implements io.Reader.
func (c compressed) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.in += int64(n)
	return n, err
}
