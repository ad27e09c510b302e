package tokenstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"sallyport/oauth/tokenstore"
)

func Example() {
	home, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(home)

	store, err := tokenstore.Open(filepath.Join(home, "state"), filepath.Join(home, "config"), tokenstore.Keyring{}, nil)
	if err != nil {
		log.Fatal(err)
	}

	// Among processes that change the same value, whoever has the lock sees the newest one.
	lock := store.Lock("account")
	if err := lock.Wait(context.Background()); err != nil {
		log.Fatal(err)
	}
	defer lock.Unlock()

	old, err := store.Load("account")
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Save("account", append(old, "token"...)); err != nil {
		log.Fatal(err)
	}
	value, err := store.Load("account")
	fmt.Printf("%s %v\n", value, err)
	// Output: token <nil>
}
