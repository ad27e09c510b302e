package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"sallyport/cmd/sallyport/internal/localsock"
)

const (
	maxStatus = 64 << 10 // bytes of a status that are read
	maxHeader = 8 << 10  // bytes of the header in front of it
)

// ErrBusy says that the proxy serves as many requests of this kind as it can.
var ErrBusy = errors.New("control: too many requests")

// ErrUnknownRequest says that the proxy does not know the request: it is of an older version.
var ErrUnknownRequest = errors.New("control: the request is unknown to the proxy")

// VersionError says that a proxy does not speak the version that was asked for.
type VersionError struct {
	// Asked is the version that the request named.
	Asked int
	// Versions are those that the proxy speaks. It is empty if the proxy did not say.
	Versions []int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("control: version %d is unknown to the proxy, which speaks %v", e.Asked, e.Versions)
}

// Dirs returns the directories of control sockets, the best one first. The argument runtimeDir is
// the value of XDG_RUNTIME_DIR. MCP hosts may start a proxy without it, so the usual value stands
// in.
func Dirs(runtimeDir, stateDir string) []string {
	if !filepath.IsAbs(runtimeDir) {
		runtimeDir = fmt.Sprintf("/run/user/%d", os.Getuid())
		if fi, err := os.Stat(runtimeDir); err != nil || !fi.IsDir() {
			runtimeDir = ""
		}
	}
	var dirs []string
	if runtimeDir != "" {
		dirs = append(dirs, filepath.Join(runtimeDir, "sallyport"))
	}
	if stateDir != "" {
		dirs = append(dirs, filepath.Join(stateDir, "run"))
	}
	return dirs
}

// Sockets returns the paths of the control sockets of this user in dirs. A proxy may have left one
// behind. Directories that are not ours are left out, and each is a *localsock.DirError in refused.
func Sockets(dirs []string) (paths []string, refused []error) {
	for _, dir := range dirs {
		found, err := localsock.List(dir)
		if err != nil {
			refused = append(refused, err)
		}
		paths = append(paths, found...)
	}
	return paths, refused
}

// Answer is what one socket said.
type Answer struct {
	// Path is the socket.
	Path string
	// Status is that of the proxy, if Err is nil.
	Status Status
	// Err is that of Ask.
	Err error
}

// maxAsked is how many proxies are asked at the same time.
const maxAsked = 64

// AskAll asks the proxies on all sockets at the same time, and returns their answers in the order
// of the paths. All together have as long as one has in Ask.
func AskAll(ctx context.Context, paths []string) []Answer {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answers := make([]Answer, len(paths))
	places := make(chan struct{}, maxAsked)
	var asking sync.WaitGroup
	for i, path := range paths {
		asking.Go(func() { // ends with ctx
			answers[i].Path, answers[i].Err = path, context.DeadlineExceeded
			select {
			case places <- struct{}{}:
				answers[i].Status, answers[i].Err = Ask(ctx, path)
				<-places
			case <-ctx.Done():
			}
		})
	}
	asking.Wait()
	return answers
}

// Ask returns the status of the proxy that listens on the socket path. It removes the socket if
// nothing listens there. The error is a *VersionError if the proxy does not speak this version, and
// a *PeerError if it is another user's.
func Ask(ctx context.Context, path string) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var status Status
	body, err := ask(ctx, path, Version, "status", nil)
	if e, ok := errors.AsType[*VersionError](err); ok && len(e.Versions) == 0 {
		if old, oldErr := ask(ctx, path, unversioned, "status", nil); oldErr == nil {
			body, err = old, nil
		}
	}
	if err != nil {
		return status, err
	}
	defer body.Close()
	return status, json.NewDecoder(io.LimitReader(body, maxStatus)).Decode(&status)
}

// Watch delivers the status of the proxy that listens on the socket path: at once, and after each
// change. The sequence ends with ctx, when the caller breaks the loop, or after the proxy's end,
// which is no error. An error is its last element: a *VersionError, ErrBusy, or that of the
// connection.
func Watch(ctx context.Context, path string) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		body, err := ask(ctx, path, Version, "watch", nil)
		if err != nil {
			yield(Status{}, err)
			return
		}
		defer body.Close()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxStatus)
		for lines.Scan() {
			var status Status
			if err := json.Unmarshal(lines.Bytes(), &status); err != nil {
				yield(Status{}, fmt.Errorf("control: %w", err))
				return
			}
			if !yield(status, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil && ctx.Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			yield(Status{}, fmt.Errorf("control: %w", err))
		}
	}
}

// ask sends one request and returns the body of a successful answer, which the caller closes. A
// request without a body is a GET, and one with a body a POST.
func ask(ctx context.Context, path string, version int, request string, body []byte) (io.ReadCloser, error) {
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return localsock.Dial(ctx, path) }}
	url := fmt.Sprintf("http://control/v%d/%s", version, request)
	if version == unversioned {
		url = "http://control/" + request
	}
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if localsock.Gone(err) {
			os.Remove(path) // its proxy is gone
		}
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var refusal errorBody
	json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&refusal)
	switch {
	// A proxy from before versions answers 404 without a word.
	case resp.StatusCode == http.StatusNotFound && refusal.Error != codeUnknownRequest:
		return nil, &VersionError{Asked: version, Versions: slices.Clone(refusal.Versions)}
	case refusal.Error == codeUnknownRequest:
		return nil, ErrUnknownRequest
	case refusal.Error == codeBusy:
		return nil, ErrBusy
	}
	return nil, fmt.Errorf("control: status %d %s", resp.StatusCode, refusal.Error)
}
