package asclient

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Secure reports whether u may be used by its scheme: https, or http to a loopback host. With
// everyHost, http to any host will do.
func Secure(u *url.URL, everyHost bool) bool {
	return u.Scheme == "https" || u.Scheme == "http" && (everyHost || IsLoopback(u.Hostname()))
}

// isCleartext reports whether rawURL is a good URL, but for its scheme http.
func isCleartext(rawURL string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && u.Scheme == "http" && u.Host != "" && u.User == nil
}

// IsLoopback reports whether host, as url.URL's Hostname returns it, is this machine by its name
// alone: "localhost", or an address of the loopback interface. It asks no name server.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// SameOrigin reports whether a and b have the same scheme, host and port (RFC 6454). A port that is
// not named is the scheme's default.
func SameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && Port(a) == Port(b)
}

// Port returns the port of u, or the default port of its scheme.
func Port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// origin returns the scheme, host and port of u.
func origin(u *url.URL) string { return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() }

// WithoutQuery returns u for an error or a log: without its query, fragment and user, which may
// hold secrets.
func WithoutQuery(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// hostOf returns the host and port of rawURL, for a log.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// isTimeout reports whether an error of the network is that nothing came in time.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// isDial reports whether an error of the network is that no connection could be made.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
