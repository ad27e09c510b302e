package session

import (
	"path/filepath"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
)

func TestCallbackHost(t *testing.T) {
	defer func(files []string) { containerFiles = files }(containerFiles)
	missing := []string{filepath.Join(t.TempDir(), "missing")}
	here := []string{t.TempDir()}
	for _, tt := range []struct {
		host      string
		files     []string
		variables map[string]string
		accepted  bool
	}{
		{"127.0.0.1", missing, nil, true},
		{"::1", missing, nil, true},
		{"[::1]", missing, nil, true},
		{"localhost", missing, nil, true},
		{"0.0.0.0", missing, nil, false},
		{"0.0.0.0", here, nil, true},
		{"::", missing, map[string]string{"container": "podman"}, true},
		{"0.0.0.0", missing, map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, true},
		{"10.0.0.1", here, nil, false},
		{"devbox", here, nil, false},
		{"", here, nil, false},
	} {
		containerFiles = tt.files
		err := checkCallbackHost(tt.host, environment.Fixed(tt.variables, t.TempDir()))
		if (err == nil) != tt.accepted {
			t.Errorf("%q in %v, %v: got %v, want accepted %t", tt.host, tt.files, tt.variables, err, tt.accepted)
		}
	}
}

func TestPortFixed(t *testing.T) {
	set := func(f func(*cli.Remote)) cli.Remote {
		r := cli.Remote{Callback: cli.Callback{CallbackPort: cli.Ports{cli.DefaultCallbackPort}}}
		f(&r)
		return r
	}
	for name, tt := range map[string]struct {
		settings cli.Remote
		want     bool
	}{
		"defaults":      {set(func(*cli.Remote) {}), false},
		"any port":      {set(func(r *cli.Remote) { r.CallbackPort = cli.Ports{0} }), false},
		"one port":      {set(func(r *cli.Remote) { r.CallbackPort = cli.Ports{8080} }), true},
		"two ports":     {set(func(r *cli.Remote) { r.CallbackPort = cli.Ports{cli.DefaultCallbackPort, 8080} }), true},
		"client ID":     {set(func(r *cli.Remote) { r.ClientID = "x" }), true},
		"redirect URI":  {set(func(r *cli.Remote) { r.RedirectURI = "http://127.0.0.1:1/x" }), true},
		"metadata file": {set(func(r *cli.Remote) { r.ClientMetadataURL = "https://x.example/c" }), true},
	} {
		if got := isPortFixed(tt.settings); got != tt.want {
			t.Errorf("%s: got %t, want %t", name, got, tt.want)
		}
	}
}
