package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
)

const (
	requestTimeout = 2 * time.Second // for a request, for an answer, and for each line of a stream
	maxStreams     = 16              // watchers that one proxy serves at a time
)

// StatusFunc returns the present status and a channel that is closed after its next change. It is
// called from several goroutines.
type StatusFunc func() (Status, <-chan struct{})

// DeliverFunc hands a callback URL to the login that waits for it, and returns what became of it.
// It ends with ctx. The callback is a secret. It is called from several goroutines.
type DeliverFunc func(ctx context.Context, callback *url.URL) Outcome

// Handlers answer the requests.
type Handlers struct {
	// Status must not be nil.
	Status StatusFunc
	// Deliver takes callbacks. Nil takes none.
	Deliver DeliverFunc
}

// Server answers on the control socket of one proxy.
type Server struct {
	http       *http.Server
	handlers   Handlers
	streams    chan struct{} // holds a token for each open stream
	deliveries chan struct{} // holds a token for each callback that waits for its outcome
	ctx        context.Context
	cancel     context.CancelFunc
	serving    sync.WaitGroup // http.Server.Serve, and the connections
}

// Serve answers requests on a new socket in the first directory of dirs that can have one, until
// the caller calls Close. The directory is made if it is missing. The error is that of the last
// directory, a *localsock.DirError if it is somebody else's.
func Serve(dirs []string, handlers Handlers) (*Server, error) {
	listener, err := listen(dirs)
	if err != nil {
		return nil, err
	}
	s := &Server{handlers: handlers, streams: make(chan struct{}, maxStreams), deliveries: make(chan struct{}, maxDeliveries)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: s.handler(), ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		ErrorLog: log.New(io.Discard, "", 0), ConnState: s.countConn,
	}
	s.serving.Go(func() { s.http.Serve(listener) }) // ends with Close
	return s, nil
}

// closeTimeout bounds how long Close lets the answers finish that are being written.
const closeTimeout = 500 * time.Millisecond

// Close ends all requests and streams, and removes the socket. It waits until nothing runs any
// more. A callback whose login has just ended is still answered.
func (s *Server) Close() error {
	s.cancel()
	bounded, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s.http.Shutdown(bounded)
	err := s.http.Close()
	s.serving.Wait()
	return err
}

// countConn follows the connections. Serve reports a new one before it starts its goroutine, which
// reports the end after the handler has returned.
func (s *Server) countConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.serving.Add(1)
	case http.StateClosed:
		s.serving.Done()
	}
}

// listen makes the socket. The path of one holds about 100 bytes: Listen fails if it is longer.
func listen(dirs []string) (*localsock.Listener, error) {
	err := errors.New("no directory for it")
	for _, dir := range dirs {
		var listener *localsock.Listener
		listener, err = localsock.Listen(filepath.Join(dir, fmt.Sprintf("%d-%s.sock", os.Getpid(), rand.Text()[:6])))
		if err == nil {
			return listener, nil
		}
	}
	return nil, err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.answerStatus)
	mux.HandleFunc("GET /v1/watch", s.answerWatch)
	mux.HandleFunc("GET /status", s.answerStatus) // unversioned
	if s.handlers.Deliver != nil {
		mux.HandleFunc("POST /v1/callback", s.takeCallback)
	}
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, errorBody{Error: codeUnknownRequest})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, errorBody{Error: codeUnknownVersion, Versions: []int{Version}})
	})
	return mux
}

func (s *Server) answerStatus(w http.ResponseWriter, _ *http.Request) {
	status, _ := s.handlers.Status()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(status)
}

// answerWatch writes a line for each status that differs from the one before.
func (s *Server) answerWatch(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		refuse(w, http.StatusServiceUnavailable, errorBody{Error: codeBusy})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	conn := http.NewResponseController(w)
	var last []byte
	for {
		status, changed := s.handlers.Status()
		line, err := json.Marshal(status)
		if err != nil {
			return
		}
		if !bytes.Equal(line, last) {
			last = line
			// The deadline replaces the server's WriteTimeout, which would end the stream.
			conn.SetWriteDeadline(time.Now().Add(requestTimeout))
			if _, err := w.Write(append(line, '\n')); err != nil || conn.Flush() != nil {
				return
			}
		}
		select {
		case <-changed:
		case <-r.Context().Done(): // the reader closed the connection
			return
		case <-s.ctx.Done():
			return
		}
	}
}

func refuse(w http.ResponseWriter, status int, body errorBody) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
