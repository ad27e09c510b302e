//lint:file-ignore SA1019 sampling and roots are deprecated in 2026-07-28, and still carried

package relay

//lint:file-ignore SA1019 sampling and roots are deprecated, and still spoken by hosts and servers

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The Go SDK's server of 2026-07-28, which serves nothing but what the request says, with the Go
// SDK's client of either era.
func TestRealModernServer(t *testing.T) {
	for _, version := range []string{"2026-07-28", "2025-11-25"} {
		t.Run("host of "+version, func(t *testing.T) { realModernSession(t, version) })
	}
}

func realModernSession(t *testing.T, version string) {
	ctx := t.Context()
	started, cancelled := make(chan struct{}), make(chan struct{})
	server := mcp.NewServer(&mcp.Implementation{Name: "real", Version: "1"}, nil)
	type none struct{}
	said := func(s string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
	}
	type place struct {
		Region string `json:"region"`
	}
	// The server refuses a call without the header.
	server.AddTool(&mcp.Tool{Name: "region", InputSchema: json.RawMessage(`{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}`)},
		func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var a place
			err := json.Unmarshal(r.Params.Arguments, &a)
			return said(a.Region), err
		})
	mcp.AddTool(server, &mcp.Tool{Name: "ask"}, func(_ context.Context, r *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		given := r.Params.InputResponses
		switch {
		case given["really"] == nil && r.Params.RequestState == "":
			return &mcp.CallToolResult{RequestState: "asked", InputRequests: mcp.InputRequestMap{
				"really": &mcp.ElicitParams{Mode: "form", Message: "really?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)}}}, nil, nil
		case given["really"] != nil:
			return &mcp.CallToolResult{RequestState: "elicited " + given["really"].(*mcp.ElicitResult).Action, InputRequests: mcp.InputRequestMap{
				"say": &mcp.CreateMessageParams{MaxTokens: 1, Messages: []*mcp.SamplingMessage{}}, "where": &mcp.ListRootsParams{}}}, nil, nil
		}
		text := given["say"].(*mcp.CreateMessageWithToolsResult).Content[0].(*mcp.TextContent).Text
		return said(r.Params.RequestState + ", sampled " + text + ", root " + given["where"].(*mcp.ListRootsResult).Roots[0].URI), nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "progress"}, func(ctx context.Context, r *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
		return &mcp.CallToolResult{}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "slow"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		close(started)
		<-ctx.Done()
		close(cancelled)
		return nil, nil, ctx.Err()
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})
	listening := make(chan struct{})
	var once sync.Once
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Mcp-Method") == "" || r.Header.Get("Mcp-Method") == "initialize" {
			t.Errorf("not of the modern wire: %s %q", r.Method, r.Header)
		}
		if r.Header.Get("Mcp-Method") == "subscriptions/listen" {
			w = &flushed{w, func() { once.Do(func() { close(listening) }) }}
		}
		handler.ServeHTTP(w, r)
	}))
	defer web.Close()

	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	send := &http.Transport{}
	defer send.CloseIdleConnections()
	result := make(chan error, 1)
	go func() {
		defer outW.Close()
		result <- Run(ctx, Config{In: inR, Out: outW, URL: mustURL(web.URL), Send: send,
			Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	}()
	progress, changed := make(chan float64, 3), make(chan struct{}, 10)
	client := mcp.NewClient(&mcp.Implementation{Name: "host", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "decline"}, nil
		},
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "m", Role: "assistant", Content: &mcp.TextContent{Text: "hello"}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Progress },
		ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	client.AddRoots(&mcp.Root{URI: "file:///r"})
	session, err := client.Connect(ctx, &mcp.IOTransport{Reader: outR, Writer: inW}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	if got := session.InitializeResult().ProtocolVersion; got != version {
		t.Errorf("protocol %s, want %s", got, version)
	}
	call := func(ctx context.Context, name string, arguments any) string {
		t.Helper()
		params := &mcp.CallToolParams{Name: name, Arguments: arguments}
		params.SetProgressToken("p")
		res, err := session.CallTool(ctx, params)
		if err != nil || res.IsError {
			t.Errorf("%s: %+v, %v", name, res, err)
			return ""
		}
		if len(res.Content) == 0 {
			return ""
		}
		return res.Content[0].(*mcp.TextContent).Text
	}
	// No list has passed by yet, so this is refused at first.
	if got := call(ctx, "region", place{"é"}); got != "é" {
		t.Errorf("region %q", got)
	}
	if got := call(ctx, "ask", none{}); got != "elicited decline, sampled hello, root file:///r" {
		t.Errorf("ask: %q", got)
	}
	call(ctx, "progress", none{})
	if got := <-progress; got != 1 {
		t.Errorf("progress %v", got)
	}
	<-listening
	mcp.AddTool(server, &mcp.Tool{Name: "late"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		return nil, nil, nil
	})
	<-changed
	slowCtx, stop := context.WithCancel(ctx)
	slow := make(chan error, 1)
	go func() {
		_, err := session.CallTool(slowCtx, &mcp.CallToolParams{Name: "slow", Arguments: none{}})
		slow <- err
	}()
	<-started
	stop()
	<-cancelled
	if err := <-slow; err == nil {
		t.Error("the cancelled call succeeded")
	}
	session.Close()
	inW.Close()
	if err := <-result; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// flushed tells when something was written to a response and flushed.
type flushed struct {
	http.ResponseWriter
	told func()
}

func (f *flushed) Flush() {
	http.NewResponseController(f.ResponseWriter).Flush()
	f.told()
}
