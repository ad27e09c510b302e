package callback

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Trust is for one HOST, one origin, one issuer and one client, and is forgotten by choice or as a
// whole.
func TestTrust(t *testing.T) {
	trust := NewTrust(t.TempDir())
	if trust.Has(Trusted{Host: "a", Origin: "https://o", Client: "c"}) || trust.List() != nil {
		t.Error("something is remembered from the start")
	}
	for _, e := range []Trusted{
		{Host: "b", Origin: "https://o", Issuer: "https://o", Client: "c", Upstream: "https://u1", Since: time.Now()},
		{Host: "a", Origin: "https://o", Issuer: "https://o", Client: "c", Upstream: "https://u2", Since: time.Now()},
	} {
		if err := trust.Add(e); err != nil {
			t.Fatal(err)
		}
		if err := trust.Add(e); err != nil { // again
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		host, origin, issuer, client string
		want                         bool
	}{
		{"a", "https://o", "https://o", "c", true}, {"c", "https://o", "https://o", "c", false},
		{"a", "https://evil", "https://o", "c", false}, {"a", "https://o", "https://evil", "c", false}, {"a", "https://o", "", "c", false},
		{"a", "https://o", "https://o", "cli-that-may-do-all", false}, {"a", "https://o", "https://o", "", false},
	} {
		if got := trust.Has(Trusted{Host: row.host, Origin: row.origin, Issuer: row.issuer, Client: row.client}); got != row.want {
			t.Errorf("%+v: got %t", row, got)
		}
	}
	if list := trust.List(); len(list) != 2 || list[0].Host != "a" {
		t.Errorf("the list is %+v", list)
	}
	if fi, err := os.Stat(trust.file(trust.List()[0].key())); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	if n, err := trust.Forget(func(e Trusted) bool { return e.Upstream == "https://u1" }); n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	a := Trusted{Host: "a", Origin: "https://o", Issuer: "https://o", Client: "c"}
	b := a
	b.Host = "b"
	if trust.Has(b) || !trust.Has(a) {
		t.Error("the wrong one is forgotten")
	}
	broken := filepath.Join(trust.Dir, "broken.json")
	if err := os.WriteFile(broken, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := trust.Forget(nil); n != 2 || err != nil || trust.List() != nil {
		t.Errorf("forgot %d, %v; %+v is left", n, err, trust.List())
	}
	if NewTrust("").Has(a) || NewTrust("").Add(Trusted{}) != nil {
		t.Error("without a directory something is remembered")
	}
}

// What an older sallyport remembered names no client. It counts for nothing and is not listed, and
// goes away with the next Continue, or with a logout.
func TestTrustOfAnOlderVersion(t *testing.T) {
	old := func(t *testing.T) Trust {
		trust := NewTrust(t.TempDir())
		e := Trusted{Host: "a", Origin: "https://o", Issuer: "https://o", Upstream: "https://u"}
		if err := writeEntry(trust.file([]string{e.Host, e.Origin, e.Issuer}), e); err != nil {
			t.Fatal(err)
		}
		return trust
	}
	now := Trusted{Host: "a", Origin: "https://o", Issuer: "https://o", Client: "c", Upstream: "https://u"}
	trust := old(t)
	if trust.Has(now) || trust.Has(Trusted{Host: "a", Origin: "https://o", Issuer: "https://o"}) || trust.List() != nil || trust.HasOther(now) {
		t.Error("it counts")
	}
	if err := trust.Add(now); err != nil || !trust.Has(now) || len(entries(trust.Dir)) != 1 {
		t.Errorf("after Continue: %v, %q", err, entries(trust.Dir))
	}
	for name, which := range map[string]func(Trusted) bool{"of its URL": func(e Trusted) bool { return e.Upstream == "https://u" }, "of all": nil} {
		trust := old(t)
		if n, err := trust.Forget(which); n != 1 || err != nil || len(entries(trust.Dir)) != 0 {
			t.Errorf("a logout %s forgot %d, %v", name, n, err)
		}
	}
}
