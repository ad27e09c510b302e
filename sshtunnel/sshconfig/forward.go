package sshconfig

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"sallyport/sshtunnel/display"
)

// endpoint is one side of a forward: the path of a socket, or a port and perhaps a host.
type endpoint struct {
	// path is that of a socket. It is empty for a port.
	path string
	// host is the part before the port. It may be empty although hasHost is true.
	host string
	// hasHost says that a host was written.
	hasHost bool
	// port is 0 for a path, and where the server is to choose.
	port int
}

// String returns the endpoint as `ssh -G` prints it.
func (p endpoint) String() string {
	switch {
	case p.path != "":
		return p.path
	case p.hasHost:
		return fmt.Sprintf("[%s]:%d", p.host, p.port)
	default:
		return strconv.Itoa(p.port)
	}
}

// forward is a LocalForward, RemoteForward or DynamicForward.
type forward struct {
	// keyword is one of the three.
	keyword string
	// listen is where connections are accepted, and connect where they lead.
	listen, connect endpoint
	// socks is true where the client names the destination: DynamicForward, and RemoteForward with
	// one argument.
	socks bool
	// origin is the place of the line.
	origin Origin
}

// setForward adds a forward, unless it is there already. OpenSSH compares with the forwards so far
// in add_local_forward and add_remote_forward.
func setForward(e *evaluation, d *directive) error {
	spec, err := argument(d)
	if err != nil {
		return err
	}
	dynamic := d.keyword == "dynamicforward"
	if !dynamic {
		to, hasTo := d.next()
		switch {
		case hasTo:
			spec += ":" + to
		case d.keyword == "remoteforward":
			dynamic = true
		default:
			return d.errorf("%s has no second argument", d.keyword)
		}
	}
	expanded, err := expand(spec, nil, e.resolver.getenv)
	if err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	f, ok := parseForward(expanded, dynamic, d.keyword == "remoteforward")
	if !ok {
		return d.errorf("%s: bad forward %q", d.keyword, display.Cut(spec))
	}
	f.keyword, f.origin = d.keyword, d.origin
	again := func(other forward) bool {
		other.origin = f.origin
		return other == f
	}
	if e.active && !slices.ContainsFunc(e.forwards, again) {
		e.forwards = append(e.forwards, f)
	}
	return nil
}

// maxSocketPath is the size of sun_path on Linux.
const maxSocketPath = 108

// parseForward reads [address:]port:destination in all its forms (parse_forward of OpenSSH).
// dynamic says that the client is to name the destination. A remote forward may listen on port 0,
// which lets the server choose.
func parseForward(spec string, dynamic, remote bool) (f forward, ok bool) {
	fields, paths, ok := splitForward(strings.TrimLeft(spec, " \t\n\v\f\r"))
	if !ok || len(fields) == 0 || len(fields) > 4 {
		return f, false
	}
	last := len(fields) - 1
	var err error
	switch {
	case len(fields) == 1 || len(fields) == 2 && !paths[1]: // [address:]port, or a path
		f.socks = true
		f.listen, err = parseEndpoint(fields, paths)
	case paths[last]:
		f.connect.path = fields[last]
		f.listen, err = parseEndpoint(fields[:last], paths)
	default:
		f.connect = endpoint{host: fields[last-1], hasHost: true}
		if f.connect.port, err = parseForwardPort(fields[last]); err == nil {
			f.listen, err = parseEndpoint(fields[:last-1], paths)
		}
	}
	switch {
	case err != nil, f.socks != dynamic,
		f.connect.port == 0 && f.connect.path == "" && !f.socks,
		f.listen.port == 0 && f.listen.path == "" && !remote,
		len(f.listen.path) >= maxSocketPath, len(f.connect.path) >= maxSocketPath,
		dynamic && len(fields) > 2:
		return f, false
	}
	return f, true
}

// parseEndpoint reads [host:]port or a path.
func parseEndpoint(fields []string, paths []bool) (endpoint, error) {
	switch {
	case len(fields) == 1 && paths[0]:
		return endpoint{path: fields[0]}, nil
	case len(fields) == 1:
		port, err := parseForwardPort(fields[0])
		return endpoint{port: port}, err
	case len(fields) == 2:
		port, err := parseForwardPort(fields[1])
		return endpoint{host: fields[0], hasHost: true, port: port}, err
	}
	return endpoint{}, fmt.Errorf("too many fields")
}

// parseForwardPort is parsePort, but allows the 0 of a remote listener.
func parseForwardPort(s string) (int, error) {
	n, err := parseNumber(s, 65535)
	if err != nil {
		n, err = net.LookupPort("tcp", s)
	}
	return n, err
}

// splitForward splits s at the colons outside of brackets. A backslash takes the next byte as it
// is. paths tells which fields are paths of sockets, because they hold a '/'.
func splitForward(s string) (fields []string, paths []bool, ok bool) {
	for s != "" {
		if len(fields) == 4 {
			return nil, nil, false
		}
		var field strings.Builder
		isPath := false
		if s[0] == '[' {
			inner, rest, found := strings.Cut(s[1:], "]")
			if !found || rest != "" && rest[0] != ':' {
				return nil, nil, false
			}
			field.WriteString(inner)
			isPath = strings.Contains(inner, "/")
			s = strings.TrimPrefix(rest, ":")
		} else {
			i := 0
			for ; i < len(s) && s[i] != ':'; i++ {
				switch s[i] {
				case '\\':
					if i++; i == len(s) {
						return nil, nil, false
					}
				case '/':
					isPath = true
				}
				field.WriteByte(s[i])
			}
			s = s[min(i+1, len(s)):]
		}
		fields = append(fields, field.String())
		paths = append(paths, isPath)
	}
	return fields, paths, true
}
