package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/lazyregexp"
)

// Strangers returns the report as text that is fit to be sent to strangers. Names of hosts, people
// and directories are replaced, each always by the same word, so that the text can still be
// followed.
func (r *Report) Strangers(names *Names) string {
	var b strings.Builder
	fmt.Fprintf(&b, "sallyport doctor, report %d\nsallyport %s on %s\n", r.Version, r.Sallyport, r.System)
	if r.Client != "" {
		fmt.Fprintf(&b, "with the environment of %s\n", r.Client)
	}
	for _, h := range r.hosts {
		names.add(kindHost, h.Alias, h.HostName)
		names.add(kindUser, h.User)
	}
	fmt.Fprintf(&b, "exit status %d, first failure: %s\n\n", r.Status, cmp.Or(r.FirstFailure, "none"))
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-7s %-20s %s (%d ms)\n", c.Result, c.ID, names.Mask(c.Summary), c.Milliseconds)
		for _, text := range c.Evidence {
			fmt.Fprintf(&b, "        seen     %s\n", names.Mask(text))
		}
		for _, text := range c.Next {
			fmt.Fprintf(&b, "        next     %s\n", names.Mask(text))
		}
	}
	return b.String()
}

// Names replaces names. The zero value knows of none but those that it recognizes by their form. It
// must not be used concurrently.
type Names struct {
	// known are names, and what kind of name each is.
	known map[string]string
	// words are what names were replaced by, and counts how many there are of each kind.
	words  map[string]string
	counts map[string]int
}

// The kinds of names.
const (
	kindHost   = "host"
	kindUser   = "user"
	kindFolder = "folder"
	kindName   = "name"
	kindKey    = "key"
)

// NamesOf returns the names in the settings and the environment.
func NamesOf(command *cli.DoctorCommand, env environment.Environment) *Names {
	n := &Names{known: map[string]string{}, words: map[string]string{}, counts: map[string]int{}}
	n.add(kindFolder, env.Home, env.AccountHome)
	n.add(kindUser, env.User, env.Getenv("USER"), env.Getenv("LOGNAME"))
	n.add(kindHost, env.Hostname)
	if command == nil {
		return n
	}
	for _, text := range []string{command.URL, command.UpstreamURL, command.Issuer, command.IDPIssuer, command.IDPTokenURL, command.TokenURL, command.AuthorizationURL} {
		if u, err := url.Parse(text); err == nil {
			n.add(kindHost, u.Hostname())
		}
	}
	for _, text := range []string{command.Via, command.CallbackVia, command.Jump} {
		for _, hop := range strings.Split(text, ",") {
			user, host, found := strings.Cut(strings.TrimPrefix(hop, "ssh://"), "@")
			if !found {
				user, host = "", user
			}
			name, _, _ := strings.Cut(host, ":")
			n.add(kindHost, name)
			n.add(kindUser, user)
		}
	}
	n.add(kindName, command.ClientID, command.IDPClientID)
	if command.Profile != "default" {
		n.add(kindName, command.Profile)
	}
	return n
}

// common are names that tell nothing of anybody.
var common = []string{"", "localhost", "root", "none", "git", "admin", "/", "default"}

// add notes names of a kind.
func (n *Names) add(kind string, names ...string) {
	for _, name := range names {
		if _, known := n.known[name]; !known && !slices.Contains(common, name) && !isLoopback(name) {
			n.known[name] = kind
		}
	}
}

// isLoopback reports whether a name is an address of the machine itself, which tells nothing.
func isLoopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// Forms of names that nobody has told us.
var (
	mail     = lazyregexp.New(`[\w.+-]+@[\w-]+(?:\.[\w-]+)+`)
	urlHost  = lazyregexp.New(`://([^\s/"'<>:\[\]]+)`)
	address4 = lazyregexp.New(`\b\d{1,3}(?:\.\d{1,3}){3}\b`)
	address6 = lazyregexp.New(`(?i)\b[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:%\w+)?`)
	dotted   = lazyregexp.New(`(?i)\b(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}\b`)
	query    = lazyregexp.New(`\?[^\s"')]+`)
	key      = lazyregexp.New(`SHA256:[A-Za-z0-9+/]{20,}`)
	subject  = lazyregexp.New(`\b(?:CN|O|OU|L|ST|STREET|SERIALNUMBER)=([^,+"]+)`)
	segment  = lazyregexp.New(`(://[^\s"']*?/)([A-Za-z0-9_~-]*[0-9][A-Za-z0-9_~-]*)`)
	letter   = lazyregexp.New(`[\pL\pN_-]`)
	homes    = lazyregexp.New(`(/home/|/Users/|\\Users\\)([^/\\\s:"')]+)`)
)

// files are the endings of what looks like a host's name and is a file.
var files = []string{"json", "jsonc", "toml", "yaml", "conf", "config", "pub", "pem", "key", "sock", "txt", "log", "hop"}

// Mask replaces the names in a text.
func (n *Names) Mask(text string) string {
	text = query().ReplaceAllString(text, "?(query)")
	for _, m := range mail().FindAllString(text, -1) {
		user, host, _ := strings.Cut(m, "@")
		switch {
		case n.known[host] != "", isAddress(host): // as ssh writes it
			n.add(kindUser, user)
		case looksLikeHost(host): // and no extension of SSH's protocol
			n.add(kindName, m)
		}
	}
	for _, m := range homes().FindAllStringSubmatch(text, -1) {
		n.add(kindUser, m[2])
	}
	for _, m := range key().FindAllString(text, -1) { // the public half of a key tells whose it is
		n.add(kindKey, m)
	}
	for _, m := range subject().FindAllStringSubmatch(text, -1) {
		n.add(kindName, m[1])
	}
	text = n.maskSegments(text)
	for _, m := range urlHost().FindAllStringSubmatch(text, -1) {
		n.add(kindHost, m[1])
	}
	for _, m := range address4().FindAllString(text, -1) {
		n.addAddress(m)
	}
	for _, m := range address6().FindAllString(text, -1) {
		n.addAddress(m)
	}
	for _, m := range dotted().FindAllString(text, -1) {
		if looksLikeHost(m) {
			n.add(kindHost, m)
		}
	}
	known := make([]string, 0, len(n.known))
	for name := range n.known {
		known = append(known, name)
	}
	// The longest first: a name may be a part of another one.
	slices.SortFunc(known, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	for _, name := range known {
		text = n.replace(text, name)
	}
	return text
}

// longSegment is how long a part of a URL's path may be before it may be a secret.
const longSegment = 16

// maskSegments replaces the parts of URLs' paths that may be secrets or names of customers: those
// that are long and have digits.
func (n *Names) maskSegments(text string) string {
	for {
		replaced := segment().ReplaceAllStringFunc(text, func(found string) string {
			m := segment().FindStringSubmatch(found)
			if len(m[2]) < longSegment {
				return found
			}
			return m[1] + "(segment)"
		})
		if replaced == text {
			return text
		}
		text = replaced
	}
}

// addAddress notes an IP address.
func (n *Names) addAddress(text string) {
	bare, _, _ := strings.Cut(text, "%")
	if _, err := netip.ParseAddr(bare); err == nil {
		n.add(kindHost, text)
	}
}

// looksLikeHost reports whether a dotted word is the name of a host, and not that of a file or of
// an extension of SSH's protocol.
func looksLikeHost(word string) bool {
	last := strings.ToLower(word[strings.LastIndexByte(word, '.')+1:])
	return !slices.Contains(files, last) && !strings.HasSuffix(word, "openssh.com") && !strings.HasSuffix(word, "libssh.org")
}

// replace replaces one name where it is a word of its own.
func (n *Names) replace(text, name string) string {
	var b strings.Builder
	for {
		i := strings.Index(text, name)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		before, after := b.String(), text[i+len(name):]
		if partOfWord(before, after, n.known[name]) {
			b.WriteString(name)
		} else {
			b.WriteString(n.word(name))
		}
		text = after
	}
}

// partOfWord reports whether what was found is only a part of another word.
func partOfWord(before, after, kind string) bool {
	if kind == kindFolder {
		return false
	}
	return before != "" && letter().MatchString(before[len(before)-1:]) || after != "" && letter().MatchString(after[:1])
}

// word returns what a name is replaced by.
func (n *Names) word(name string) string {
	if word, ok := n.words[name]; ok {
		return word
	}
	kind := n.known[name]
	word := "~"
	if kind != kindFolder {
		n.counts[kind]++
		word = fmt.Sprintf("%s-%d", kind, n.counts[kind])
	}
	n.words[name] = word
	return word
}
