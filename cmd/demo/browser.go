package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"

	"sallyport/oauth/oauthtest"
)

// browse is the part that this program plays as the person's browser. It follows the link, agrees
// to everything, and ends on the page of the callback. The proxy starts it. It trusts the demo's
// own certificate authority in caFile.
func browse(ctx context.Context, caFile, link string) error {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	browser := oauthtest.Browser{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	page, err := browser.Open(ctx, link)
	if err != nil {
		return err
	}
	// An error of the login or of the callback shows as the status of the last page.
	if page.Status != http.StatusOK {
		return fmt.Errorf("the last page has status %d", page.Status)
	}
	return nil
}
