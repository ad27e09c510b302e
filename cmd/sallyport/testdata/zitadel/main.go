// Zitadel is an authorization server of another family than oidc-provider: the example of zitadel's
// oidc library, on a loopback port of the system's choice. It speaks OpenID Connect only. Its issuer
// ends in a slash, and its tokens are opaque. It registers nobody. The one client is "native", whose
// redirect URI matches with any port.
//
// The first line on stdout is the issuer. Requests are logged on stderr. The server ends when its
// stdin does. The person is test-user@localhost, and the password is verysecure.
package main

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	issuer := fmt.Sprintf("http://%s/", listener.Addr())
	storage.RegisterClients(storage.NativeClient("native", "http://127.0.0.1/callback"))
	server := exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore("http://localhost:1/")),
		slog.New(slog.NewTextHandler(os.Stderr, nil)), false, op.WithAllowInsecure())
	fmt.Println(issuer)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, server))
}
