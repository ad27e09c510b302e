package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/oauth/procnet"
	"sallyport/sshtunnel"
)

const (
	ownerTimeout   = 15 * time.Second // for one command on the host
	maxOwnerOutput = 16 << 20         // bytes of a busy host's table of sockets
)

// Host is one machine where proxies run. Its methods may be called concurrently.
type Host struct {
	// Name is the host as the person named it.
	Name string
	// User is the person's name there. It may be empty.
	User string
	// Tunnel leads there. The caller of NewHost closes it.
	Tunnel *sshtunnel.Tunnel

	mu  sync.Mutex
	uid string // of this user on the host; "" before it was asked for
}

// NewHost returns the host at the end of tunnel.
func NewHost(name string, tunnel *sshtunnel.Tunnel) *Host { return &Host{Name: name, Tunnel: tunnel} }

// dialOwned connects to port on the host. It returns the connection only if the socket that listens
// there belongs to this user both before and after.
func (h *Host) dialOwned(ctx context.Context, port int) (net.Conn, error) {
	before, err := h.ownedSockets(ctx, port)
	if err != nil {
		return nil, err
	}
	conn, err := h.dial(ctx, port)
	if err != nil {
		return nil, err
	}
	after, err := h.ownedSockets(ctx, port)
	if err == nil && !slices.Equal(before, after) {
		err = &OwnerError{Host: h.Name, Port: port, Err: errors.New("the listener changed while it was being dialed")}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// userID returns this user's numeric ID on the host.
func (h *Host) userID(ctx context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.uid != "" {
		return h.uid, nil
	}
	out, err := h.output(ctx, "id -u")
	if err != nil {
		return "", &OwnerError{Host: h.Name, Err: err}
	}
	uid := strings.TrimSpace(out)
	if _, err := strconv.ParseUint(uid, 10, 32); err != nil {
		return "", &OwnerError{Host: h.Name, Err: fmt.Errorf("id -u printed %.40q", uid)}
	}
	h.uid = uid
	return uid, nil
}

// socketsScript prints the table of TCP sockets on Linux, and elsewhere what lsof shows of this
// user's listening sockets. It names sh, because the login shell may be of another kind.
const socketsScript = `sh -c 'if [ -r /proc/net/tcp ]; then cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; else echo lsof; lsof -a -nP -u "$(id -u)" -iTCP:%d -sTCP:LISTEN -Fn; fi; exit 0'`

// ownedSockets identifies the sockets that may accept a connection to 127.0.0.1:port on the host.
// It returns an *OwnerError unless there is one and all of them belong to this user.
func (h *Host) ownedSockets(ctx context.Context, port int) ([]string, error) {
	uid, err := h.userID(ctx)
	if err != nil {
		return nil, err
	}
	out, err := h.output(ctx, fmt.Sprintf(socketsScript, port))
	if err != nil {
		return nil, &OwnerError{Host: h.Name, Port: port, Err: err}
	}
	if own, ok := strings.CutPrefix(out, "lsof\n"); ok {
		// lsof shows only this user's sockets. One on exactly this address leaves no room for
		// another user's.
		if !slices.Contains(strings.Split(own, "\n"), fmt.Sprintf("n127.0.0.1:%d", port)) {
			return nil, &OwnerError{Host: h.Name, Port: port}
		}
		return []string{own}, nil
	}
	sockets := procnet.Accepting(out, port)
	var ids, others []string
	for _, s := range sockets {
		ids = append(ids, s.UID+"/"+s.Inode)
		if s.UID != uid {
			others = append(others, s.UID)
		}
	}
	if len(sockets) == 0 || len(others) > 0 {
		return nil, &OwnerError{Host: h.Name, Port: port, Owners: others}
	}
	return ids, nil
}

// output runs a command on the host and returns what it prints.
func (h *Host) output(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	session, err := h.Tunnel.Exec(ctx, command)
	if err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { session.Close() })()
	text, err := io.ReadAll(io.LimitReader(session, maxOwnerOutput))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(text), errors.Join(err, session.Close())
}

// OwnerError says that the listening socket on a host does not belong to this user, or that there
// is none.
type OwnerError struct {
	// Host is the host as the person named it.
	Host string
	// Port is the port there. It is 0 if the user ID could not be found out.
	Port int
	// Owners are the IDs of the other users who listen there. It is empty if nobody listens.
	Owners []string
	// Err says why the owner could not be found out. It is nil if it could.
	Err error
}

func (e *OwnerError) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("%s: cannot tell who listens on 127.0.0.1:%d there: %v", e.Host, e.Port, e.Err)
	case len(e.Owners) == 0:
		return fmt.Sprintf("%s: nobody listens on 127.0.0.1:%d there", e.Host, e.Port)
	}
	return fmt.Sprintf("%s: 127.0.0.1:%d belongs to another user there (uid %s)", e.Host, e.Port, strings.Join(e.Owners, ", "))
}

func (e *OwnerError) Unwrap() error { return e.Err }
