package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sallyport/sshtunnel"
)

const (
	controlTimeout = 2 * time.Second // for all that a proxy has to say of itself
	maxControl     = 64 << 10        // bytes of it
)

// proxyStatus is what a running proxy says of itself. It holds no secret.
type proxyStatus struct {
	PID      int           `json:"pid"`
	Started  time.Time     `json:"started"`
	Upstream string        `json:"upstream"`
	Profile  string        `json:"profile"`
	Via      string        `json:"via,omitempty"` // "" direct
	Tunnel   *tunnelStatus `json:"tunnel,omitempty"`
	Callback *tunnelStatus `json:"callback,omitempty"` // to the workstation of --callback-via
	SignIn   string        `json:"sign_in,omitempty"`  // "pending", or why the last failed; "" neither
}

// tunnelStatus is a sshtunnel.State.
type tunnelStatus struct {
	Phase string `json:"phase"`
	Hop   string `json:"hop,omitempty"`
	Error string `json:"error,omitempty"`
}

func statusOf(t *sshtunnel.Tunnel) *tunnelStatus {
	if t == nil {
		return nil
	}
	s, _ := t.State()
	out := &tunnelStatus{Phase: s.Phase, Hop: s.Hop}
	if s.Err != nil {
		out.Error = oneLine(s.Err.Error())
	}
	return out
}

func (w *way) status() proxyStatus {
	s := proxyStatus{Upstream: plainURL(w.upstream), Via: w.via, Tunnel: statusOf(w.tunnel), Callback: statusOf(w.callback)}
	if login, _ := w.login.State(); login.Busy {
		s.SignIn = "pending"
	} else if login.Err != nil && !errors.Is(login.Err, context.Canceled) {
		s.SignIn = explain(login.Err).text
	}
	return s
}

// controlDirs are the places of control sockets, the best first. Where a proxy was started without
// the variable, as hosts do, it is still found.
func controlDirs(env environment, stateDir string) []string {
	var dirs []string
	if dir := env.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		dirs = append(dirs, filepath.Join(dir, "sallyport"))
	} else if dir := fmt.Sprintf("/run/user/%d", os.Getuid()); isDir(dir) {
		dirs = append(dirs, filepath.Join(dir, "sallyport"))
	}
	if stateDir != "" {
		dirs = append(dirs, filepath.Join(stateDir, "run"))
	}
	return dirs
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// serveControl answers `sallyport status` on a socket that only this user can open, until the caller
// calls stop. A proxy that cannot have one works without.
func (a *app) serveControl(dirs []string, status func() proxyStatus) (stop func()) {
	listener, err := listenControl(dirs)
	if err != nil {
		a.log.Info("no control socket, sallyport status will not show this proxy", "err", err)
		return func() {}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(status())
	})
	server := &http.Server{Handler: mux, ReadTimeout: controlTimeout, WriteTimeout: controlTimeout, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() { // ends with the server
		defer close(done)
		server.Serve(listener)
	}()
	return func() {
		server.Close() // removes the socket too
		<-done
	}
}

func listenControl(dirs []string) (net.Listener, error) {
	err := errors.New("no directory for it")
	for _, dir := range dirs {
		if err = os.MkdirAll(dir, 0o700); err != nil {
			continue
		}
		// The process ID is for people; it may be another's in a container that shares the directory.
		path := filepath.Join(dir, fmt.Sprintf("%d-%s.sock", os.Getpid(), rand.Text()[:6]))
		var listener net.Listener
		if listener, err = net.Listen("unix", path); err != nil { // a path of more than about 100 bytes, say
			continue
		}
		if err = os.Chmod(path, 0o600); err == nil {
			return listener, nil
		}
		listener.Close()
	}
	return nil, err
}

// proxies asks every control socket in dirs, and removes those whose proxy is gone.
func proxies(ctx context.Context, dirs []string) []proxyStatus {
	var list []proxyStatus
	for _, dir := range dirs {
		sockets, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
		for _, path := range sockets {
			s, err := askControl(ctx, path)
			switch {
			case err == nil:
				list = append(list, s)
			case errors.Is(err, syscall.ECONNREFUSED):
				os.Remove(path)
			}
		}
	}
	return list
}

func askControl(ctx context.Context, path string) (s proxyStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://control/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status %d", resp.StatusCode)
	}
	return s, json.NewDecoder(io.LimitReader(resp.Body, maxControl)).Decode(&s)
}
