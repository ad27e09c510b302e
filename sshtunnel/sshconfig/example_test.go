package sshconfig_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"sallyport/sshtunnel/sshconfig"
)

func ExampleResolver_Chain() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	config := `
Host web
    HostName web.corp.example
    ProxyJump gate

Host gate
    HostName gate.example.org
    User alice
    Port 2022
`
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		log.Fatal(err)
	}
	resolver := &sshconfig.Resolver{UserFile: file, User: "bob"}
	chain, err := resolver.Chain(context.Background(), "web")
	if err != nil {
		log.Fatal(err)
	}
	for _, host := range chain {
		fmt.Printf("%s: %s@%s:%d\n", host.Alias, host.User, host.HostName, host.Port)
	}
	origin := chain[0].Origin("User")
	fmt.Printf("the user of %s stands in line %d\n", chain[0].Alias, origin.Line)
	// Output:
	// gate: alice@gate.example.org:2022
	// web: bob@web.corp.example:22
	// the user of gate stands in line 8
}
