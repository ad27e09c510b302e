package relay

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The Go SDK's client drives the Go SDK's server through Run: on a socket, with all that a session
// has.
func TestRealServer(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, jsonAnswers := range []bool{false, true} {
		name := "SSE"
		if jsonAnswers {
			name = "JSON"
		}
		t.Run(name, func(t *testing.T) { realSession(t, jsonAnswers) })
	}
	for range 500 { // goroutines that are told to end need a moment to do so
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func realSession(t *testing.T, jsonAnswers bool) {
	ctx := t.Context()
	cancelled := make(chan struct{})
	started := make(chan struct{})
	server := mcp.NewServer(&mcp.Implementation{Name: "real", Version: "1"}, nil)
	type args struct {
		Text string `json:"text,omitempty"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a args) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Text}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "progress"}, func(ctx context.Context, r *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, any, error) {
		for i := range 3 {
			r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i)})
		}
		return &mcp.CallToolResult{}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "ask"}, func(ctx context.Context, r *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, any, error) {
		res, err := r.Session.Elicit(ctx, &mcp.ElicitParams{Message: "really?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{}}`)})
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: res.Action}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "slow"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ args) (*mcp.CallToolResult, any, error) {
		close(started)
		<-ctx.Done()
		close(cancelled)
		return nil, nil, ctx.Err()
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{JSONResponse: jsonAnswers})
	var mu sync.Mutex
	var methods []string
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		methods = append(methods, r.Method)
		mu.Unlock()
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

	progress := make(chan float64, 3)
	changed := make(chan struct{}, 10)
	client := mcp.NewClient(&mcp.Implementation{Name: "host", Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "decline"}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Progress },
		ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
	})
	session, err := client.Connect(ctx, &mcp.IOTransport{Reader: outR, Writer: inW}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := session.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) != 4 {
		t.Fatalf("tools %v, %v", tools, err)
	}
	text := strings.Repeat("é\u2028<\"", 10000)
	res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: args{text}})
	if err != nil || res.Content[0].(*mcp.TextContent).Text != text {
		t.Errorf("echo: %v", err)
	}
	if !jsonAnswers { // a JSON answer has no room for what comes before it
		params := &mcp.CallToolParams{Name: "progress", Arguments: args{}}
		params.SetProgressToken("p")
		if _, err := session.CallTool(ctx, params); err != nil {
			t.Errorf("progress: %v", err)
		}
		for want := range 3 {
			if got := <-progress; got != float64(want) {
				t.Errorf("progress %v, want %v", got, want)
			}
		}
		res, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "ask", Arguments: args{}})
		if err != nil || res.Content[0].(*mcp.TextContent).Text != "decline" {
			t.Errorf("ask: %+v, %v", res, err)
		}
	}
	mcp.AddTool(server, &mcp.Tool{Name: "late"}, func(context.Context, *mcp.CallToolRequest, args) (*mcp.CallToolResult, any, error) {
		return nil, nil, nil
	})
	<-changed // over the GET stream

	slowCtx, stop := context.WithCancel(ctx)
	slow := make(chan error, 1)
	go func() {
		_, err := session.CallTool(slowCtx, &mcp.CallToolParams{Name: "slow", Arguments: args{}})
		slow <- err
	}()
	<-started
	stop()
	<-cancelled
	if err := <-slow; err == nil {
		t.Error("the cancelled call succeeded")
	}
	if err := session.Ping(ctx, nil); err != nil {
		t.Errorf("ping after cancel: %v", err)
	}
	session.Close()
	inW.Close()
	if err := <-result; err != nil {
		t.Errorf("Run: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(methods, http.MethodDelete) || !slices.Contains(methods, http.MethodGet) {
		t.Errorf("methods %v", methods)
	}
}
