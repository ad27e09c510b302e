package sshconfig

import (
	"strconv"
	"strings"
)

// settings lists the lines of `ssh -G`, in its order. It follows dump_client_config of OpenSSH.
func (e *evaluation) settings() []Setting {
	out := make([]Setting, 0, len(keywords))
	add := func(keyword, text string, origin Origin) {
		out = append(out, Setting{keyword, text, origin})
	}
	for _, k := range keywords {
		switch k.name {
		case "": // the keywords that follow are not printed
			return out
		case "host":
			add(k.name, e.target.host, e.target.origin)
		case "hostname":
			add(k.name, e.host.text, e.host.origin)
		case "dynamicforward", "localforward", "remoteforward":
			for _, f := range e.forwards {
				if text, ok := f.print(k.name); ok {
					add(k.name, text, f.origin)
				}
			}
		case "proxyjump":
			if jumps := e.values.texts(k.name); len(jumps) > 0 {
				last := len(jumps) - 1
				// OpenSSH keeps the last hop in parts and the others as text, so only the last one
				// is written anew.
				t, _ := parseHop(jumps[last])
				add(k.name, strings.Join(append(jumps[:last:last], printHop(t)), ","), e.values.origin(k.name))
			}
		default:
			list, isAlgorithms := e.release.defaults[k.name]
			switch {
			case isAlgorithms && !e.values.isSet(k.name):
				add(k.name, list, Origin{})
			case k.oneLine:
				add(k.name, strings.Join(e.values.texts(k.name), " "), e.values.origin(k.name))
			default:
				for _, v := range e.values[k.name] {
					add(k.name, v.text, v.origin)
				}
			}
		}
	}
	return out
}

// print returns what `ssh -G` prints for a forward under a keyword; ok is false where it prints
// nothing.
func (f *forward) print(keyword string) (text string, ok bool) {
	switch {
	// `ssh -G` takes a local forward to a socket for a dynamic one as well.
	case keyword == "dynamicforward" && (f.keyword == keyword || f.keyword == "localforward" && f.connect.path != ""):
		return f.listen.String(), true
	case f.keyword != keyword:
		return "", false
	case f.socks:
		return f.listen.String() + " [socks]:0", true
	default:
		return f.listen.String() + " " + f.connect.String(), true
	}
}

// printHop writes a jump host as `ssh -G` does. An address stands in brackets, and a port is shown
// only if it was written.
func printHop(t target) string {
	s := t.host
	if strings.Contains(s, ":") || strings.Trim(s, "0123456789.") == "" {
		s = "[" + s + "]"
	}
	if t.user != "" {
		s = t.user + "@" + s
	}
	if t.port != 0 {
		s += ":" + strconv.Itoa(t.port)
	}
	return s
}
