package person

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Errors of linkForBrowser.
var (
	errNotHTTP  = errors.New("the link is no http or https URL")
	errWithUser = errors.New("the link has a user name in front of its host")
)

// linkForBrowser returns a link that leads to the same place as link and holds no character that
// means anything to a shell. The command of --browser may hand its arguments to a shell, as `sh -c
// 'open %s'` and `ssh laptop open` do, and a part of the link comes from a login server.
//
// Percent-encoding removes all such characters but one: an & between two parameters, which would no
// longer separate them. A link with an & is not handed out. The browser gets the URL of a page of
// ours that leads to it, and that page ends with ctx.
func linkForBrowser(ctx context.Context, link string) (string, error) {
	u, err := url.Parse(link)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", errNotHTTP
	case u.User != nil: // it makes https://bank.example@evil.example look like the bank's
		return "", errWithUser
	}
	escaped := escapeForShell(link)
	if !strings.Contains(escaped, "&") {
		return escaped, nil
	}
	return serveLink(ctx, escaped)
}

// harmless are the characters besides letters and digits that escapeForShell leaves. They mean
// nothing to a shell as long as no blank is in front of them. The brackets are those of an IPv6
// address.
const harmless = "-._~:/?#@=+,&[]"

// escapeForShell percent-encodes each byte of a URL that RFC 3986 does not allow, or that means
// something to a shell, except the &.
func escapeForShell(link string) string {
	var b strings.Builder
	for i := range len(link) {
		c := link[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if letter || '0' <= c && c <= '9' || strings.IndexByte(harmless, c) >= 0 || c == '%' && isEscape(link[i:]) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// isEscape reports whether text begins with a percent-encoded byte.
func isEscape(text string) bool {
	const digits = "0123456789abcdefABCDEF"
	return len(text) > 2 && strings.IndexByte(digits, text[1]) >= 0 && strings.IndexByte(digits, text[2]) >= 0
}

// linkReadTimeout bounds how long a browser takes to send the request for our page.
const linkReadTimeout = 10 * time.Second

// serveLink returns the URL of a page on loopback that leads to link. The page works once, and ends
// with ctx: other users of this machine can read the arguments of a browser.
func serveLink(ctx context.Context, link string) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	path := "/" + rand.Text()
	server := &http.Server{ReadTimeout: linkReadTimeout, WriteTimeout: linkReadTimeout, ErrorLog: log.New(io.Discard, "", 0)}
	server.SetKeepAlivesEnabled(false)
	visited, visit := context.WithCancel(ctx)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page of another site must not reach ours under a name of its own (DNS rebinding).
		if r.Host != l.Addr().String() || r.URL.Path != path || r.Method != http.MethodGet || visited.Err() != nil {
			http.NotFound(w, r)
			return
		}
		visit()
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.Redirect(w, r, link, http.StatusFound)
	})
	go server.Serve(l) // ends with visited
	context.AfterFunc(visited, func() {
		// The answer to the visit is under way.
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), linkReadTimeout)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			server.Close()
		}
	})
	return "http://" + l.Addr().String() + path, nil
}
