package asclient

import (
	"net/url"
	"slices"
	"testing"
)

func TestWellKnownURLs(t *testing.T) {
	for _, tt := range []struct {
		of   func(*url.URL) []string
		link string
		want []string
	}{
		{resourceMetadataURLs, "https://h/a/mcp", []string{"https://h/.well-known/oauth-protected-resource/a/mcp", "https://h/.well-known/oauth-protected-resource"}},
		{resourceMetadataURLs, "https://h/", []string{"https://h/.well-known/oauth-protected-resource"}},
		{resourceMetadataURLs, "https://h:8443/x?q=1", []string{"https://h:8443/.well-known/oauth-protected-resource/x", "https://h:8443/.well-known/oauth-protected-resource"}},
		{serverMetadataURLs, "https://h", []string{"https://h/.well-known/oauth-authorization-server", "https://h/.well-known/openid-configuration"}},
		{serverMetadataURLs, "https://h/t1/", []string{"https://h/.well-known/oauth-authorization-server/t1",
			"https://h/.well-known/openid-configuration/t1", "https://h/t1/.well-known/openid-configuration"}},
	} {
		u, _ := url.Parse(tt.link)
		if got := tt.of(u); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.link, got, tt.want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		resource, upstream string
		want               bool
	}{
		{"https://h/mcp", "https://h/mcp", true},
		{"https://h/mcp/", "https://h/mcp", true},
		{"https://h", "https://h/mcp", true},
		{"https://H:443/", "https://h/mcp", true},
		{"https://h/mcp", "https://h/mcp/v1", true},
		{"https://h/mc", "https://h/mcp", false},
		{"https://h/mcp/v1", "https://h/mcp", false},
		{"http://h/mcp", "https://h/mcp", false},
		{"https://h:8443/mcp", "https://h/mcp", false},
		{"https://h.evil.example/mcp", "https://h/mcp", false},
		{"https://h/mcp#x", "https://h/mcp", false},
		{"https://h/mcp?t=1", "https://h/mcp?t=2", false},
		{"https://h/mcp?t=1", "https://h/mcp?t=1", true},
		{"", "https://h/mcp", false},
	} {
		u, _ := url.Parse(tt.upstream)
		if got := covers(tt.resource, u); got != tt.want {
			t.Errorf("covers(%q, %q) is %v", tt.resource, tt.upstream, got)
		}
	}
}
