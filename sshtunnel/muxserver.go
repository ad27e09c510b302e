package sshtunnel

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// ServerConfig describes a Server.
type ServerConfig struct {
	// Tunnel describes the connection that is shared. Its Chain gives the same hosts each time. Its
	// Ask, Notice and Insist are not used: the clients have their own.
	Tunnel Config
	// Version is that of the program.
	Version string
	// Idle is how long the server goes on without a stream. 0 means for ever.
	Idle time.Duration
	// Max is how long the server takes new streams. 0 means for ever.
	Max time.Duration
	// Superseded reports whether another server has taken this one's place. It is asked before each
	// attempt to dial, and again before each login. It may be nil.
	Superseded func() bool
	// Retire is called once, when the server takes no new stream any more. It may be nil.
	Retire func()
	// Log gets warnings and news. If it is nil, they are dropped.
	Log *slog.Logger
}

// Server shares one connection through a chain of hops with other processes (package mux).
type Server struct{}

// NewServer returns a server. It dials nothing before a client wants it.
func NewServer(cfg ServerConfig) (*Server, error) { return nil, errors.ErrUnsupported }

// Serve serves the clients of a listener, which it closes. It returns when the server has ended:
// because it was unused, too old, superseded, drained or stopped. All its streams have ended then.
func (s *Server) Serve(ln net.Listener) error { return errors.ErrUnsupported }

// Drain makes the server take no new stream, and end when its streams have ended.
func (s *Server) Drain(why string) {}

// Stop ends the server and all its streams.
func (s *Server) Stop() {}
