//go:build linux

package bench_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// largeResult is the size in bytes of the answer to the tool "large".
const largeResult = 8 << 20

// upstreamConfig is the configuration of the role "upstream".
type upstreamConfig struct {
	// IP is the address to listen on.
	IP string
	// CertFile and KeyFile are the server's certificate.
	CertFile, KeyFile string
}

func init() { machines.Role("upstream", playUpstream) }

// startUpstream starts an MCP server behind TLS that does no more than any server in Go has to. It
// returns the host:port that it listens on, and the authority that signed its certificate. It has a
// token endpoint, too.
func startUpstream(t testing.TB, ns *machines.Namespace, ip string) (addr string, ca *machines.Authority) {
	t.Helper()
	ca = machines.NewAuthority(t)
	config := upstreamConfig{IP: ip}
	config.CertFile, config.KeyFile = ca.Issue(t, "127.0.0.1", machines.FarIP)
	_, addr = machines.StartRole(t, ns, "upstream", config)
	return addr, ca
}

// playUpstream prints the address that it listens on and serves HTTP/2 and HTTP/1.1, as the client
// asks.
func playUpstream(text []byte) error {
	var config upstreamConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(config.IP, "0"))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"t0ken-of-the-bench","token_type":"Bearer","expires_in":36000}`)
	})
	mux.HandleFunc("POST /mcp", serveMCP)
	fmt.Println(listener.Addr())
	return http.ServeTLS(listener, mux, config.CertFile, config.KeyFile)
}

// request is what the server reads of a request.
type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name string `json:"name"`
	} `json:"params"`
}

// answer is what it answers.
type answer struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   any             `json:"error,omitempty"`
}

// toolText is a tool's result.
func toolText(text string) any {
	type content struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	return map[string]any{"content": []content{{"text", text}}}
}

var large = toolText(strings.Repeat("x", largeResult))

func serveMCP(w http.ResponseWriter, r *http.Request) {
	var req request
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	if req.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	a := answer{Version: "2.0", ID: req.ID}
	switch {
	case req.Method == "initialize":
		a.Result = map[string]any{
			"protocolVersion": "2025-11-25", "capabilities": map[string]any{"tools": struct{}{}},
			"serverInfo": map[string]string{"name": "light", "version": "1"},
		}
	case req.Method != "tools/call":
		a.Error = map[string]any{"code": -32601, "message": "method not found"}
	case req.Params.Name == "large":
		a.Result = large
	default:
		a.Result = toolText("hello")
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a)
}
