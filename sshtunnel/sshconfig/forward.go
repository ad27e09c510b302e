package sshconfig

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// endpoint is one side of a forward: a socket path, or a port with perhaps a host.
type endpoint struct {
	path    string
	host    string
	hasHost bool
	port    int
}

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
	keyword         string
	listen, connect endpoint
	socks           bool // the client names the far end: DynamicForward, RemoteForward of one argument
}

// setForward reads a forward (parse_forward of OpenSSH).
func setForward(e *evaluation, d *directive) error {
	spec, err := argument(d)
	if err != nil {
		return err
	}
	dynamic := d.keyword == "dynamicforward"
	if !dynamic {
		to, ok := d.next()
		switch {
		case ok:
			spec += ":" + to
		case d.keyword == "remoteforward":
			dynamic = true
		default:
			return d.errorf("%s has no second argument", d.keyword)
		}
	}
	f, err := e.parseForward(spec, dynamic, d.keyword == "remoteforward")
	if err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	if f.keyword = d.keyword; f.socks && d.keyword == "localforward" {
		f.keyword = "dynamicforward" // how OpenSSH prints it
	}
	if !e.active {
		return nil
	}
	for _, have := range e.forwards {
		if have == f {
			return nil
		}
	}
	e.forwards = append(e.forwards, f)
	return nil
}

func (e *evaluation) parseForward(spec string, dynamic, remote bool) (forward, error) {
	var f forward
	bad := fmt.Errorf("bad forward %q", cut(spec))
	expanded, err := expand(spec, nil, e.r.getenv)
	if err != nil {
		return f, err
	}
	fields, paths, ok := splitForward(strings.TrimLeft(expanded, " \t\n\v\f\r"))
	if !ok || len(fields) == 0 || len(fields) > 4 {
		return f, bad
	}
	if len(fields) == 1 || len(fields) == 2 && !paths[1] { // [host:]port, or a path
		f.socks = true
		f.listen, err = parseEndpoint(fields, paths)
	} else if last := len(fields) - 1; paths[last] {
		f.connect.path = fields[last]
		f.listen, err = parseEndpoint(fields[:last], paths)
	} else {
		f.connect = endpoint{host: fields[last-1], hasHost: true}
		if f.connect.port, err = parseForwardPort(fields[last]); err == nil {
			f.listen, err = parseEndpoint(fields[:last-1], paths)
		}
	}
	const maxPath = 108 // sun_path of Linux
	switch {
	case err != nil, f.socks != dynamic,
		f.connect.port == 0 && f.connect.path == "" && !f.socks,
		f.listen.port == 0 && f.listen.path == "" && !remote,
		len(f.listen.path) >= maxPath, len(f.connect.path) >= maxPath,
		dynamic && len(fields) > 2:
		return f, bad
	}
	return f, nil
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

// parseForwardPort is parsePort with 0, for a remote listener, allowed.
func parseForwardPort(s string) (int, error) {
	n, err := parseNumber(s, 65535)
	if err != nil {
		n, err = net.LookupPort("tcp", s)
	}
	return n, err
}

// splitForward splits at colons outside of brackets; a backslash takes the next byte as it is. paths tells which fields hold a '/'.
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
