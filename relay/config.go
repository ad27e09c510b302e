package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// Config describes one relayed session. The functions in it are called from several goroutines at
// the same time.
type Config struct {
	// In brings the host's messages, one on each line. Run does not close it.
	In io.Reader
	// Out takes the messages for the host. Each Write holds whole lines. Run does not close it.
	Out io.Writer

	// URL is the endpoint of the upstream.
	URL *url.URL
	// Header is added to every request to the upstream. A header that the protocol sets itself wins
	// over one in here.
	Header http.Header
	// Send carries the requests to the upstream. It adds the token, finds the route, and follows no
	// redirect.
	//
	// When a request fails, the relay must know whether it may have run on the server, because it
	// does not send such a request again. Send tells that by four hooks of net/http/httptrace,
	// which the relay puts into the request's context:
	//
	//	GetConn               An attempt begins, and nothing of the request is written yet. Send
	//	                      calls it again when it sends the request anew, which it may do only
	//	                      if the server has refused the request.
	//	WroteHeaders          The header is written. From now on the request may run.
	//	GotFirstResponseByte  The server answers. If RoundTrip does not return soon after that, the
	//	                      answer was a refusal and Send deals with it: nothing runs on the
	//	                      server, and the request waits for a person.
	//	Got1xxResponse        The response was only an interim one. The request may be running.
	//
	// An [http.Transport] calls them, so a RoundTripper that hands the request's context on to one
	// does what is needed. For a RoundTripper that calls no hook, the relay errs on the safe side:
	// as soon as a byte of the request's body was read, the request may have run.
	Send http.RoundTripper
	// InSession carries the requests that have an Mcp-Session-Id, and server/discover. It does what
	// Send does, with one difference: where a request has had a token, is answered 401 all the
	// same, and the token need not be at fault, it returns the 401. The relay then finds out by
	// Send whether the token or the session is at fault. It has to call the same hooks as Send. The
	// default is Send.
	InSession http.RoundTripper
	// Background carries requests that nobody waits for: the GET stream, the new session when that
	// stream shows the loss of the old one, pings, the subscription of the bridge, the DELETE, and
	// the attempts to open a session after a sign-in that nobody completed.
	// It never starts a sign-in. Where the upstream wants one it returns the 401, and the relay
	// asks again later. It has to call the same hooks as Send. The default is Send.
	Background http.RoundTripper
	// MayLeave reports at the end whether the DELETE may be sent. It is not worth a new connection
	// that a person may be needed for. The default says yes.
	MayLeave func() bool

	// Transport says how the older revisions of the protocol travel: TransportAuto, TransportHTTP
	// or TransportSSE. The default is TransportAuto.
	Transport string
	// ProtocolVersion is the value of the header MCP-Protocol-Version until the server has
	// negotiated a version. "" means that there is no such header until then.
	ProtocolVersion string
	// NoServerStream says that the GET stream, and the subscription of the bridge to changes of
	// lists, are never opened.
	NoServerStream bool
	// IgnoreTools are patterns of the tools that are hidden from the host and refused to it. In a
	// pattern * stands for any characters. Upper and lower case are the same.
	IgnoreTools []string
	// PinTools hides the tools whose names, descriptions, schemas or other words are not those of
	// the first use, until a person accepts them, and refuses their calls. PinHints say how a
	// person sees the difference and accepts it.
	PinTools bool
	PinHints []string
	// Version is our own version, which an early answer names in serverInfo. The default is
	// "devel".
	Version string

	// Timeout is how long a call may take without a sign of progress. The default is 300 s.
	Timeout time.Duration
	// Patience is how long a request that is not yet sent waits for an obstacle to pass. The
	// default is 25 s.
	Patience time.Duration
	// InitPatience is how long initialize and server/discover wait for the server before they are
	// answered in its place. An obstacle has to be in the way for as long before the host is told
	// of it. The default is 3 s.
	InitPatience time.Duration

	// KeepAlive is how long a session of the legacy wire may be idle before the upstream is sent a
	// ping. 0 means that it is never sent one. The modern wire has no ping, and no session to keep.
	KeepAlive time.Duration

	// Obstacle returns what is in the way of the upstream now, or nil, and a channel that is closed
	// when that changes. A nil func means that nothing ever is in the way.
	Obstacle func() (o *Obstacle, changed <-chan struct{})
	// Stage says in a few words what the way to the upstream, or the sign-in, is at. Progress
	// notifications hold it. The default returns "", which means that nothing is under way.
	Stage func() string
	// Explain puts an error of Send, or a *StatusError, into words. A nil func means that the words
	// are those of the error.
	Explain func(error) Explanation
	// Answered is called before the host gets an answer: with what went wrong, or with nil if the
	// answer is the upstream's own. It is also called after each attempt to open a session. What
	// one call alone has met is told to the host alone: a status or a silence of the upstream, as
	// long as not three calls in a row fail so. The default does nothing.
	Answered func(*Explanation)
	// SignIn asks the person for a sign-in, if one is wanted, and returns when that has ended. It
	// is called when the host calls the sign-in tool. A request that goes by Send may start a
	// sign-in as well, but Send may hold that back after sign-ins that nobody completed; SignIn has
	// to start one in any case. A nil func means that Send is enough.
	SignIn func(ctx context.Context) error
	// Deliver finishes a sign-in by a callback that the person has copied from the browser, and
	// returns when the sign-in has ended. It is called when the host gives the sign-in tool such a
	// text, which may be anything and is a secret. A nil func refuses every one.
	Deliver func(ctx context.Context, callback string) error

	// Load and Save keep what one session with this upstream learns for the next one. Each thing
	// has a name of its own, and one that was never saved loads as nil. Nil funcs mean that nothing
	// is remembered.
	Load func(name string) ([]byte, error)
	Save func(name string, b []byte) error
	// Update replaces what is kept under name by what change returns of it, while no other process
	// does so. The error says why the new value will be forgotten with this process. The default
	// loads and saves.
	Update func(name string, change func(old []byte) []byte) error

	// Audit is called when a request for something that acts or brings content has ended. It must
	// not block. A nil func means that nobody wants to know.
	Audit func(AuditEntry)

	// InFlight is kept at the number of the host's requests that are not answered yet. It may be
	// nil.
	InFlight *atomic.Int64
	// Idle is called when it is a good time to give memory back: some time after the beginning, and
	// some time after a large message or many small ones. The default does nothing.
	Idle func()
	// Mask returns text without the secrets that are in use. It is applied to all text that may
	// come from the upstream: the words of an error and the excerpt of a body. It is not applied to
	// hints and URLs, which are our own. The default returns the text.
	Mask func(text string) string
	// Log takes the log. The default discards it.
	Log *slog.Logger

	// maxMessage and maxCalls are the limits of these names. Tests make them smaller.
	maxMessage, maxCalls int
}

// errNoDelivery is the error of the default of Config.Deliver.
var errNoDelivery = errors.New("this proxy takes no callback")

// setDefaults replaces zero values by the defaults.
func (c *Config) setDefaults() {
	for _, d := range []struct {
		p   *time.Duration
		def time.Duration
	}{{&c.Timeout, 300 * time.Second}, {&c.Patience, 25 * time.Second}, {&c.InitPatience, 3 * time.Second}} {
		if *d.p <= 0 {
			*d.p = d.def
		}
	}
	if c.maxMessage == 0 {
		c.maxMessage = maxMessage
	}
	if c.maxCalls == 0 {
		c.maxCalls = maxCalls
	}
	if c.Version == "" {
		c.Version = "devel"
	}
	if c.Background == nil {
		c.Background = c.Send
	}
	if c.MayLeave == nil {
		c.MayLeave = func() bool { return true }
	}
	if c.Obstacle == nil {
		c.Obstacle = func() (*Obstacle, <-chan struct{}) { return nil, nil }
	}
	if c.Stage == nil {
		c.Stage = func() string { return "" }
	}
	if c.SignIn == nil {
		c.SignIn = func(context.Context) error { return nil }
	}
	if c.Deliver == nil {
		c.Deliver = func(context.Context, string) error { return errNoDelivery }
	}
	if c.Explain == nil {
		c.Explain = func(error) Explanation { return Explanation{} }
	}
	if c.Answered == nil {
		c.Answered = func(*Explanation) {}
	}
	if c.Idle == nil {
		c.Idle = func() {}
	}
	if c.Mask == nil {
		c.Mask = func(s string) string { return s }
	}
	c.setMemoryDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// setMemoryDefaults replaces the nil funcs of what is remembered.
func (c *Config) setMemoryDefaults() {
	if c.Load == nil {
		c.Load = func(string) ([]byte, error) { return nil, nil }
	}
	if c.Save == nil {
		c.Save = func(string, []byte) error { return nil }
	}
	if c.Update == nil {
		c.Update = func(name string, change func([]byte) []byte) error {
			old, err := c.Load(name)
			if err != nil {
				return err
			}
			return c.Save(name, change(old))
		}
	}
}
