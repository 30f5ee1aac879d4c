package stage

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interruption is the cause of a context that a signal cancelled.
type interruption struct{ signal os.Signal }

func (i interruption) Error() string { return "stopped by signal: " + i.signal.String() }

func (i interruption) code() int {
	if i.signal == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupted
}

// interruptionOf returns the signal that cancelled ctx, if one did.
func interruptionOf(ctx context.Context) (interruption, bool) {
	var i interruption
	ok := errors.As(context.Cause(ctx), &i)
	return i, ok
}

// withSignals returns a context that the first SIGINT or SIGTERM cancels. The
// second one finds the default action again and kills: a person who is in a
// hurry is not made to wait, and a killed run continues as well.
func withSignals(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	// Without a taker for SIGPIPE a write to a closed stdout kills the
	// process, before it can say what happened.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		received := <-stop
		signal.Reset(syscall.SIGINT, syscall.SIGTERM)
		cancel(interruption{received})
	}()
	return ctx
}

// announceSignal tells at once that a signal was heard; finishing may take a
// moment. The returned function ends the watch.
func (s *Session) announceSignal(ctx context.Context) func() {
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
			if _, ok := interruptionOf(ctx); ok {
				s.Log.Warn("stopping; a second signal ends at once")
			}
		case <-ended:
		}
	})
	return func() {
		close(ended)
		watch.Wait()
	}
}
