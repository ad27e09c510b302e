package oauth_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"

	"sallyport/oauth"
	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// startUpstream starts an upstream that wants a token, and the authorization server that issues it.
func startUpstream() (upstream *url.URL, stop func()) {
	var as *oauthtest.Server
	asWeb := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { as.ServeHTTP(w, r) }))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		as.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "hello")
		})).ServeHTTP(w, r)
	}))
	as = oauthtest.New(asWeb.URL, web.URL+"/mcp")
	upstream, _ = url.Parse(web.URL + "/mcp")
	return upstream, func() { web.Close(); asWeb.Close() }
}

// A Transport signs in when the first request needs it. Offer shows the login to the person; here a
// test browser plays the person.
func ExampleTransport() {
	upstream, stop := startUpstream()
	defer stop()

	t, err := oauth.New(oauth.Config{
		Upstream: upstream,
		Store:    tokenstore.Memory(nil),
		Offer: func(ctx context.Context, p oauth.Prompt) {
			fmt.Println("a person is asked to log in")
			if _, err := (oauthtest.Browser{}).Open(ctx, p.AuthorizeURL); err != nil {
				log.Print(err)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()

	client := http.Client{Transport: t}
	for range 2 {
		resp, err := client.Get(upstream.String())
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.Status, string(body))
	}
	// Output:
	// a person is asked to log in
	// 200 OK hello
	// 200 OK hello
}

// A person whose browser cannot reach the callback's listener pastes the URL that the browser ended
// at. State tells when there is a prompt, and Deliver takes the URL.
func ExampleTransport_Deliver() {
	upstream, stop := startUpstream()
	defer stop()
	t, err := oauth.New(oauth.Config{Upstream: upstream})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()

	ctx := context.Background()
	done := make(chan error, 1)
	go func() { done <- t.SignIn(ctx) }() // ends with the login

	state, changed := t.State()
	for state.Prompt.AuthorizeURL == "" {
		<-changed
		state, changed = t.State()
	}
	pasted, err := whereTheBrowserEnds(ctx, state.Prompt.AuthorizeURL)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("deliver:", t.Deliver(ctx, pasted))
	fmt.Println("sign-in:", <-done)
	// Output:
	// deliver: <nil>
	// sign-in: <nil>
}

// whereTheBrowserEnds logs in at link and returns the callback URL without requesting it.
func whereTheBrowserEnds(ctx context.Context, link string) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return resp.Location()
}
