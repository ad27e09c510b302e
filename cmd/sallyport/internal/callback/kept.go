package callback

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Kept keeps, in a directory, the callbacks whose outcome HOST has not told, so that they outlive
// this process. Each is a file of mode 0600, which is removed with the outcome. A code in it is of
// use to nobody without the verifier of PKCE, which HOST has. The zero value keeps nothing.
type Kept struct {
	// Dir is the directory. It is made when the first callback is kept. If it is empty, nothing is.
	Dir string
}

// NewKept returns what is kept in a state directory. If that is empty, nothing is.
func NewKept(stateDir string) Kept {
	if stateDir == "" {
		return Kept{}
	}
	return Kept{Dir: filepath.Join(stateDir, "callbacks")}
}

// maxKept is the longest time for which a callback is kept.
const maxKept = time.Hour

// keptCallback is a callback that HOST may not have got.
type keptCallback struct {
	// Host is HOST as the person typed it, and State that of the login there.
	Host  string `json:"host"`
	State string `json:"state"`
	// Query is the query of the callback.
	Query string `json:"query"`
	// Page is the URL of our page about the login, which the browser shows.
	Page string `json:"page"`
	// Expires is when the login ends.
	Expires time.Time `json:"expires"`
}

// file returns the path for a login. The name of the login is a secret.
func (k Kept) file(id, host string) string {
	key, _ := json.Marshal([]string{id, host}) // strings always have a form in JSON
	sum := sha256.Sum256(key)
	return filepath.Join(k.Dir, hex.EncodeToString(sum[:16])+".json")
}

// add keeps the callback of a login.
func (k Kept) add(id string, c keptCallback) error {
	if k.Dir == "" {
		return nil
	}
	return writeEntry(k.file(id, c.Host), c)
}

// remove forgets the callback of a login, if there is one.
func (k Kept) remove(id, host string) {
	if k.Dir != "" {
		os.Remove(k.file(id, host))
	}
}

// find returns the callback of a login, if there is one that has not expired.
func (k Kept) find(id, host string) (c keptCallback, found bool) {
	if k.Dir == "" {
		return c, false
	}
	err := readEntry(k.file(id, host), &c)
	return c, err == nil && c.Host == host && time.Now().Before(c.Expires)
}

// all returns the callbacks that are kept, the one that lasts longest first. It removes those that
// have expired.
func (k Kept) all() (kept []keptCallback) {
	for _, file := range entries(k.Dir) {
		var c keptCallback
		if err := readEntry(file, &c); err != nil || !time.Now().Before(c.Expires) {
			os.Remove(file)
			continue
		}
		kept = append(kept, c)
	}
	slices.SortFunc(kept, func(a, b keptCallback) int { return b.Expires.Compare(a.Expires) })
	return kept
}

// addr returns where the page of the callback is served, as 127.0.0.1:1234. It is empty if that is
// no address of our pages.
func (c keptCallback) addr() string {
	u, err := url.Parse(c.Page)
	if err != nil || u.Hostname() != loopback4 {
		return ""
	}
	return u.Host
}

// keepLocked keeps the callback of a login until HOST has told the outcome.
func keepLocked(l *login) {
	c := keptCallback{Host: l.from.host, State: l.state, Query: l.query, Expires: l.expires}
	if l.page.name != "" {
		c.Page = l.desk.pages.url(loginPath, l.page.name)
	}
	if last := time.Now().Add(maxKept); c.Expires.After(last) {
		c.Expires = last
	}
	if err := l.desk.cfg.Kept.add(l.id, c); err != nil {
		l.desk.cfg.Log.Warn("the answer of a sign-in is lost if this process ends before HOST has it", "err", err)
	}
}

// unkeepLocked forgets the callback that is kept.
func unkeepLocked(l *login) {
	if l.query != "" {
		l.desk.cfg.Kept.remove(l.id, l.from.host)
	}
}

// restoreLocked goes on with a login whose callback came to a process before this one. It reports
// whether there was one. The page that the browser still shows is that of the login again, if we
// serve pages at the same address.
func restoreLocked(l *login) bool {
	d := l.desk
	c, found := d.cfg.Kept.find(l.id, l.from.host)
	if !found || c.State != l.state {
		d.cfg.Kept.remove(l.id, l.from.host)
		return false
	}
	adoptPageLocked(l, c)
	l.comeBackLocked(c.Query)
	host := l.from.name()
	d.running.Go(func() { d.tell(l.from.host, "%s gets the answer of a sign-in that was kept here for it", host) }) // ends with the line
	return true
}

// adoptLocked makes the page of a callback that is kept that of the login. HOST has got the
// callback from the process before this one, and tells only the outcome.
func adoptLocked(l *login) {
	if c, found := l.desk.cfg.Kept.find(l.id, l.from.host); found {
		adoptPageLocked(l, c)
		l.query = c.Query
	}
}

// adoptPageLocked makes the page that a browser may still show that of the login, if we serve pages
// at the same address.
func adoptPageLocked(l *login, c keptCallback) {
	name, isOurs := strings.CutPrefix(c.Page, l.desk.pages.url(loginPath, ""))
	if !isOurs || name == "" {
		name = newName()
	}
	l.page.name, l.page.token = name, newName()
	l.desk.shown[name] = l
}

// Forget removes all callbacks that are kept, and returns how many there were.
func (k Kept) Forget() (removed int) {
	for _, file := range entries(k.Dir) {
		if os.Remove(file) == nil {
			removed++
		}
	}
	return removed
}

// keptPage returns the page of a callback whose login on HOST has not come back, by its name.
func (s *pageServer) keptPage(name string) (page, bool) {
	if name == "" {
		return page{}, false
	}
	for _, c := range s.desk.cfg.Kept.all() {
		if c.Page == s.url(loginPath, name) {
			p := pageAway(source{host: c.Host}.name(), nil, c.Expires)
			p.Next = "You can close this tab, too: " + c.Host + " shows whether it is signed in. If the program there has ended, start it again."
			return p, true
		}
	}
	return page{}, false
}
