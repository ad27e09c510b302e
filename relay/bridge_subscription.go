package relay

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"sallyport/relay/rawjson"
)

// subscriptions is what the host of a bridge wants to be told of. All wishes together are one
// subscriptions/listen upstream. A change of the wishes is a new one, and the old one ends when the
// new one is acknowledged, so that nothing is missed between them.
type subscriptions struct {
	*modern
	// changing holds one token. Whoever has put it there may change the subscription.
	changing chan struct{}

	mu sync.Mutex
	// who is what the host said of itself.
	who identity
	// lists are the fields of the filter for the lists that the server says may change.
	lists []string
	// watched has the resources that the host has subscribed to: the raw URI by the decoded one.
	watched map[string][]byte
	// current are the subscriptions upstream, in the order of their requests. All but the last are
	// about to end.
	current []*subscription
}

// subscription is one subscriptions/listen.
type subscription struct {
	end context.CancelFunc
	// decided is closed when the server has acknowledged or refused the subscription.
	decided chan struct{}
	// closed says that decided is closed. It is guarded by subscriptions.mu.
	closed bool
	// uris are the resources that the server has agreed to tell about. They are set before decided
	// is closed.
	uris []string
}

// reset begins a session of the host anew. It learns from the raw capabilities which lists may
// change.
func (s *subscriptions) reset(who identity, capabilities []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.who, s.lists = who, nil
	for _, list := range []string{"tools", "prompts", "resources"} {
		if string(rawjson.Member(capabilities, list, "listChanged")) == "true" {
			s.lists = append(s.lists, list+"ListChanged")
		}
	}
}

// open asks for the first subscription if there are lists that may change, and returns when the
// server has decided, or after acceptWait.
func (s *subscriptions) open() {
	s.mu.Lock()
	wanted := len(s.lists) > 0
	s.mu.Unlock()
	if !wanted {
		return
	}
	s.changing <- struct{}{}
	decided := s.listen().decided
	<-s.changing
	s.obstacles.waitAccepted(decided)
}

// watch carries out a resources/subscribe or resources/unsubscribe of the host.
func (s *subscriptions) watch(c *call) error {
	raw := rawjson.Member(c.Params, "uri")
	if len(raw) == 0 || raw[0] != '"' {
		return invalidParams("uri is no string")
	}
	uri := rawjson.Text(raw)
	select {
	case s.changing <- struct{}{}:
		defer func() { <-s.changing }()
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	s.mu.Lock()
	_, known := s.watched[uri]
	full := len(s.watched) >= maxWatched
	s.mu.Unlock()
	add := c.Method == "resources/subscribe"
	switch {
	case add == known:
		return nil
	case add && full:
		return newFault(codeParams, "busy", fmt.Sprintf("%d resources are subscribed to already", maxWatched))
	case !add:
		s.forget(uri)
		s.listen()
		return nil
	}
	s.mu.Lock()
	s.watched[uri] = bytes.Clone(raw)
	s.mu.Unlock()
	sub := s.listen()
	if err := wait(c.ctx, sub.decided); err != nil {
		s.forget(uri)
		return err
	}
	if !slices.Contains(sub.uris, uri) {
		s.forget(uri)
		return newFault(codeParams, "no_subscription", "the server does not tell of changes of this resource")
	}
	return nil
}

// forget takes back the wish to be told of a resource.
func (s *subscriptions) forget(uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watched, uri)
}

// listen asks for a subscription to all that the host wants now. Whoever calls it holds the token
// of changing.
func (s *subscriptions) listen() *subscription {
	ctx, end := context.WithCancel(s.ctx)
	sub := &subscription{end: end, decided: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	filter := s.filterLocked()
	s.current = append(s.current, sub)
	if string(filter) == "{}" {
		s.acceptedLocked(sub)
		end()
		s.current = nil
		return sub
	}
	r := modernRequest{
		Message: s.request("subscriptions/listen", rawjson.Set([]byte("{}"), filter, "notifications"), s.who),
		who:     s.who, send: s.cfg.Background, phase: new(phase), stubborn: true,
		answer: func(a rawjson.Message) { s.cfg.Log.Debug("subscription ended", "status", errorCode(a)) },
		aside: func(n rawjson.Message) {
			if n.Method != methodAck {
				s.host.toHost(n)
				return
			}
			sub.uris = rawjson.Texts(rawjson.Member(n.Params, "notifications", "resourceSubscriptions"), maxWatched)
			s.mu.Lock()
			s.acceptedLocked(sub)
			s.mu.Unlock()
		},
	}
	// Ends with ctx: with the session, or when a later subscription is acknowledged.
	s.work.Go(func() {
		defer end()
		if err := s.subscribe(ctx, r); err != nil && ctx.Err() == nil {
			s.logFailure("no subscription", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.current = slices.DeleteFunc(s.current, func(other *subscription) bool { return other == sub })
		if !sub.closed {
			close(sub.decided)
		}
	})
	return sub
}

// filterLocked is the raw filter of all that the host wants now. It is empty if the host wants
// nothing.
func (s *subscriptions) filterLocked() []byte {
	filter := []byte("{}")
	for _, field := range s.lists {
		filter = rawjson.Set(filter, []byte("true"), field)
	}
	if len(s.watched) > 0 {
		var uris [][]byte
		for _, uri := range slices.Sorted(maps.Keys(s.watched)) {
			uris = append(uris, s.watched[uri])
		}
		filter = rawjson.Set(filter, rawjson.ArrayOf(uris), "resourceSubscriptions")
	}
	return filter
}

// acceptedLocked notes that sub is acknowledged, and ends all subscriptions before it.
func (s *subscriptions) acceptedLocked(sub *subscription) {
	sub.closed = true
	close(sub.decided)
	for _, old := range s.current {
		if old == sub {
			return
		}
		old.end()
	}
}
