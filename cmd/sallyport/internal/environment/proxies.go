package environment

import (
	"cmp"
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

// Proxies returns what chooses the HTTP proxy for a URL: that of HTTPS_PROXY or HTTP_PROXY, unless
// NO_PROXY excepts the host. It chooses nil where there is none.
func (e Environment) Proxies() func(*url.URL) (*url.URL, error) {
	// This is httpproxy.FromEnvironment, which would read the variables of the process instead of
	// those in e.
	either := func(name, lower string) string { return cmp.Or(e.Getenv(name), e.Getenv(lower)) }
	return (&httpproxy.Config{
		HTTPProxy:  either("HTTP_PROXY", "http_proxy"),
		HTTPSProxy: either("HTTPS_PROXY", "https_proxy"),
		NoProxy:    either("NO_PROXY", "no_proxy"),
	}).ProxyFunc()
}
