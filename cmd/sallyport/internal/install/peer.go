package install

import (
	"net/url"
	"path"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/lazyregexp"
)

// Kind says what a server of a host's configuration is to us.
type Kind string

// The kinds of servers.
const (
	// Ours starts this program.
	Ours Kind = "sallyport"
	// Predecessor starts mcp-oauth2-proxy, whose settings this program understands.
	Predecessor Kind = "mcp-oauth2-proxy"
	// MCPRemote starts mcp-remote.
	MCPRemote Kind = "mcp-remote"
	// Direct is reached by the host itself.
	Direct Kind = "direct"
	// Foreign is any other.
	Foreign Kind = "other"
)

// packageName matches the name of one of the programs above, as a path, as a package of npm, and
// with a version.
var packageName = lazyregexp.New(`^(?:.*[/\\])?(sallyport|mcp-oauth2-proxy|mcp-remote)(?:\.exe|\.cmd|\.js)?(?:@[\w.^~-]+)?$`)

// runners start a package: npx mcp-remote, cmd /c npx mcp-remote, node .../mcp-remote/....
var runners = []string{"npx", "bunx", "pnpx", "pnpm", "yarn", "node", "bun", "deno", "cmd", "env"}

// Kind tells what the server is. The argument self is the path of this program.
func (s Server) Kind(self string) Kind {
	if len(s.Command) == 0 {
		if s.URL != "" {
			return Direct
		}
		return Foreign
	}
	if s.Command[0] == self {
		return Ours
	}
	words := s.Command[:1]
	if base := strings.ToLower(path.Base(strings.ReplaceAll(s.Command[0], `\`, "/"))); slices.ContainsFunc(runners, func(runner string) bool {
		return base == runner || base == runner+".exe" || base == runner+".cmd"
	}) {
		words = s.Command
	}
	for _, word := range words {
		if match := packageName().FindStringSubmatch(word); match != nil {
			return Kind(match[1])
		}
	}
	return Foreign
}

// Upstream returns the URL of the server that the host gets at through this one. It is empty if the
// entry does not tell.
func (s Server) Upstream() string {
	if s.URL != "" {
		return s.URL
	}
	// The URL is the last argument of ours, and the first one of mcp-remote. Its flags have values
	// that are URLs, too.
	urls := slices.DeleteFunc(slices.Clone(s.Command), func(word string) bool {
		return !strings.HasPrefix(word, "http://") && !strings.HasPrefix(word, "https://")
	})
	switch {
	case len(urls) == 0:
		return s.Env["UPSTREAM_URL"]
	case s.Kind("") == MCPRemote:
		return urls[0]
	}
	return urls[len(urls)-1]
}

// sameURL reports whether two URLs lead to the same upstream.
func sameURL(a, b string) bool {
	normal := func(text string) string {
		u, err := url.Parse(text)
		if err != nil {
			return text
		}
		u.Host = strings.ToLower(u.Host)
		if u.Scheme == "https" {
			u.Host = strings.TrimSuffix(u.Host, ":443")
		} else {
			u.Host = strings.TrimSuffix(u.Host, ":80")
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		return u.String()
	}
	return normal(a) == normal(b)
}

// NameOf makes a name for the server at a URL: what its host is called besides the words that many
// are called, and the profile if there is one.
func NameOf(upstream *url.URL, profile string) string {
	host := strings.ToLower(upstream.Hostname())
	labels := strings.Split(host, ".")
	isName := strings.ContainsFunc(labels[len(labels)-1], func(r rune) bool { return r >= 'a' && r <= 'z' })
	if isName && !strings.Contains(host, ":") {
		for len(labels) > 1 && slices.Contains([]string{"mcp", "www", "api"}, labels[0]) {
			labels = labels[1:]
		}
		if len(labels) > 1 {
			labels = labels[:len(labels)-1]
		}
	}
	if port := upstream.Port(); port != "" && (!isName || len(labels) == 1) {
		labels = append(labels, port)
	}
	if profile != "" && profile != "default" {
		labels = append(labels, profile)
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(strings.Join(labels, "-")))
	if name = strings.Trim(name, "-_"); name == "" {
		return "sallyport"
	}
	return name
}

// namePattern is what all hosts take as a name.
var namePattern = lazyregexp.New(`^[A-Za-z0-9_-]{1,64}$`)

// IsName reports whether all hosts take a name.
func IsName(name string) bool { return namePattern().MatchString(name) }
