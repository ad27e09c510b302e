package relay

import (
	"context"
	"sync"
)

const (
	// maxHeld is how many bytes of the server's messages are held at once. Then the server is read
	// no further, but for one message, until others have gone to the host.
	maxHeld = 256 << 20
	// freeHold is how many bytes of each message do not count. Most messages have less, and are
	// never kept waiting.
	freeHold = 64 << 10
)

// budget bounds the bytes of all messages that are being read, or that wait until the host reads
// them. One of them may go beyond the bound. Otherwise messages of which each is read in part could
// wait for each other for ever.
type budget struct {
	// beyond holds the token of the message that goes beyond the bound.
	beyond chan struct{}

	mu sync.Mutex
	// left is how much may still be held. It is negative if a message goes beyond the bound.
	left int
	// freed is closed and replaced when there is more left. It is nil if nobody waits.
	freed chan struct{}
}

func newBudget(size int) *budget { return &budget{beyond: make(chan struct{}, 1), left: size} }

// share is what one message holds of a budget. It belongs to one goroutine, which calls hold(0) in
// the end.
type share struct {
	budget *budget
	// ctx ends a wait.
	ctx    context.Context
	n      int
	beyond bool
}

// hold makes the share n bytes large, and waits until the budget has that much. The error is the
// cause of ctx.
func (s *share) hold(n int) error {
	if n = max(n-freeHold, 0); n == s.n {
		return nil
	}
	b := s.budget
	for {
		b.mu.Lock()
		if n <= s.n || s.beyond || b.left >= n-s.n {
			b.left += s.n - n
			if n < s.n && b.freed != nil {
				close(b.freed)
				b.freed = nil
			}
			s.n = n
			b.mu.Unlock()
			break
		}
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case b.beyond <- struct{}{}:
			s.beyond = true
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	if n == 0 && s.beyond {
		s.beyond = false
		<-b.beyond
	}
	return nil
}
