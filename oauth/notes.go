package oauth

import "encoding/json"

// Names of what the store keeps beside our record. For the first two, only the lock of that name
// counts.
const (
	leaderName = "/lead"   // locked by the process that runs the login
	claimName  = "/claim"  // locked by a process with AtTerminal: it is to lead next
	noticeName = "/notice" // a notice, which the leader writes for its followers
	pagesName  = "/pages"  // a pageCount of all processes
	boundName  = "/issuer" // a boundTo: the server that configured credentials are for
)

// notes are the values that the store keeps beside a record, for all processes of the account. Its
// methods may be called concurrently.
type notes struct {
	cfg *Config
	// key is the record's name in the store.
	key string
}

// save stores v under a name. An error is logged only.
func (n notes) save(name string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = n.cfg.Store.Save(n.key+name, b)
	}
	if err != nil {
		n.cfg.Log.Warn("state of the sign-in could not be stored", "err", err)
	}
}

// load reads into v what save stored, and reports whether it did. v stays as it is if there is
// nothing to read.
func (n notes) load(name string, v any) bool {
	b, err := n.cfg.Store.Load(n.key + name)
	if err == nil && b != nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		n.cfg.Log.Debug("state of the sign-in is not used", "err", err)
	}
	return err == nil && b != nil
}
