package oauthtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Page is where a Browser came to rest.
type Page struct {
	URL    string
	Status int
	Header http.Header
	Body   string
}

// Browser is a person's browser that only follows redirects: the person says yes to everything.
type Browser struct {
	// Transport may be nil, which is http.DefaultTransport.
	Transport http.RoundTripper
}

// Open goes to link and returns the last page.
func (b Browser) Open(ctx context.Context, link string) (Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return Page{}, err
	}
	req.Header.Set("Accept", "text/html")
	resp, err := (&http.Client{Transport: b.Transport}).Do(req)
	if err != nil {
		return Page{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return Page{}, fmt.Errorf("read %s: %w", resp.Request.URL.Host, err)
	}
	return Page{URL: resp.Request.URL.String(), Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, nil
}
