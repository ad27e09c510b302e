package callback

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Trusted is a HOST that may open the login page of one client at one login server without asking,
// because the person said Continue there. The client counts: a login server may know others, of
// which it asks the person nothing, and which may do more.
type Trusted struct {
	// Host is the HOST as the person typed it.
	Host string `json:"host"`
	// Origin is where the login page is, as https://login.example.
	Origin string `json:"origin"`
	// Issuer is what HOST called the login server. It is empty if HOST did not say.
	Issuer string `json:"issuer,omitempty"`
	// Client is the client ID in the link. An entry that an older sallyport has written has none,
	// and counts for nothing.
	Client string `json:"client,omitempty"`
	// Upstream is the upstream of the first login, by HOST's own words.
	Upstream string `json:"upstream,omitempty"`
	// Since is when the person said so.
	Since time.Time `json:"since"`
}

// Trust remembers, in a directory, what may be opened without asking. Each entry is a file, so
// several processes can use the directory at once. The zero value remembers nothing.
type Trust struct {
	// Dir is the directory. It is made when the first entry is. If it is empty, nothing is
	// remembered.
	Dir string
}

// NewTrust returns what is remembered in a state directory. If that is empty, nothing is.
func NewTrust(stateDir string) Trust {
	if stateDir == "" {
		return Trust{}
	}
	return Trust{Dir: filepath.Join(stateDir, "trusted")}
}

// maxEntry is the most bytes of one entry.
const maxEntry = 64 << 10

// key returns what makes an entry another one.
func (e Trusted) key() []string { return []string{e.Host, e.Origin, e.Issuer, e.Client} }

// file returns the path of the entry with a key.
func (t Trust) file(key []string) string {
	text, _ := json.Marshal(key) // strings always have a form in JSON
	sum := sha256.Sum256(text)
	return filepath.Join(t.Dir, hex.EncodeToString(sum[:16])+".json")
}

// Has reports whether the HOST of an entry may open its login page. An entry that cannot be read
// counts as none.
func (t Trust) Has(want Trusted) bool {
	if t.Dir == "" || want.Client == "" {
		return false
	}
	var e Trusted
	err := readEntry(t.file(want.key()), &e)
	return err == nil && slices.Equal(e.key(), want.key())
}

// HasOther reports whether the HOST of an entry may open a login page of another client at the same
// login server.
func (t Trust) HasOther(want Trusted) bool {
	return slices.ContainsFunc(t.List(), func(e Trusted) bool {
		return e.Host == want.Host && e.Origin == want.Origin && e.Client != want.Client
	})
}

// Add remembers an entry.
func (t Trust) Add(e Trusted) error {
	if t.Dir == "" {
		return nil
	}
	os.Remove(t.file(e.key()[:3])) // what an older sallyport has written, without the client
	return writeEntry(t.file(e.key()), e)
}

// writeEntry writes a value as JSON to a file of mode 0600, all of it or nothing. It makes the
// directory if that is missing.
func writeEntry(file string, value any) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// List returns the entries, sorted by HOST. Entries that cannot be read, or count for nothing, are
// left out.
func (t Trust) List() []Trusted {
	var all []Trusted
	for _, file := range entries(t.Dir) {
		var e Trusted
		if readEntry(file, &e) == nil && e.Client != "" {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Trusted) int {
		return slices.Compare(a.key(), b.key())
	})
	return all
}

// Forget removes the entries for which which returns true, and returns how many it removed. A nil
// which removes all of them, those that cannot be read too.
func (t Trust) Forget(which func(Trusted) bool) (removed int, err error) {
	var errs []error
	for _, file := range entries(t.Dir) {
		var e Trusted
		if err := readEntry(file, &e); which != nil && (err != nil || !which(e)) {
			continue
		}
		if err := os.Remove(file); err == nil {
			removed++
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}

// entries lists the files of a directory that writeEntry has written.
func entries(dir string) (files []string) {
	if dir == "" {
		return nil
	}
	all, _ := os.ReadDir(dir) // without the directory, there is none
	for _, entry := range all {
		if filepath.Ext(entry.Name()) == ".json" {
			files = append(files, filepath.Join(dir, entry.Name()))
		}
	}
	return files
}

// readEntry reads a file of writeEntry.
func readEntry(file string, value any) error {
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxEntry {
		return errors.New("no entry")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, value)
}
