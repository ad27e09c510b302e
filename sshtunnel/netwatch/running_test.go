package netwatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunningTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := WithRunningTimeout(t.Context(), 3*time.Second)
		defer cancel()
		<-ctx.Done()
		if took := time.Since(began); took != 3*time.Second || context.Cause(ctx) != context.DeadlineExceeded {
			t.Errorf("ended after %v: %v", took, context.Cause(ctx))
		}
		why := errors.New("why")
		parent, end := context.WithCancelCause(t.Context())
		ctx, cancel = WithRunningTimeout(parent, time.Hour)
		defer cancel()
		end(why)
		if <-ctx.Done(); context.Cause(ctx) != why {
			t.Errorf("the parent's end: %v", context.Cause(ctx))
		}
	})
}
