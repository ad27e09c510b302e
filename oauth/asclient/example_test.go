package asclient_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

// A program with credentials of its own gets a token for an MCP server.
func Example() {
	server := httptest.NewServer(nil) // the authorization server and the MCP server in one
	defer server.Close()
	as := oauthtest.New(server.URL, server.URL+"/mcp")
	as.AddClient(oauthtest.Client{ID: "robot", Secret: "s3cret"})
	guard := as.Guard(http.NotFoundHandler())
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" || r.URL.Path == "/.well-known/oauth-authorization-server" {
			as.ServeHTTP(w, r)
		} else {
			guard.ServeHTTP(w, r)
		}
	})

	ctx := context.Background()
	upstream, err := url.Parse(as.Resource)
	if err != nil {
		log.Fatal(err)
	}
	client := &asclient.Client{Upstream: upstream}
	challenge, _, err := client.AskUpstream(ctx)
	if err != nil {
		log.Fatal(err)
	}
	found, err := client.FindResource(ctx, challenge.Metadata)
	if err != nil {
		log.Fatal(err)
	}
	found, err = client.FindServer(ctx, found)
	if err != nil {
		log.Fatal(err)
	}
	who := asclient.Credentials{ID: "robot", Secret: "s3cret"}
	token, err := client.ClientCredentials(ctx, found.Server, who, asclient.Wanted{Resource: found.Resource.ID})
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range found.Tried {
		fmt.Println(a.Step, a.Status)
	}
	fmt.Println("a token for", found.Resource.ID == as.Resource, "that prints as", token)
	// Output:
	// resource metadata 200
	// authorization server metadata 200
	// a token for true that prints as [hidden]
}
