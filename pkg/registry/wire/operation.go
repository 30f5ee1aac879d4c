package wire

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// verb is what an operation is about; it decides how answers are read.
type verb int

const (
	verbResolve verb = iota
	verbManifest
	verbTags
	verbReferrers
	verbBlob
	verbHasBlob
	verbAsk // one question of a Prober
	verbMount
	verbAskWrite // one that may change something
	verbProbe    // the start of an upload that never comes
	verbPutBlob
	verbPutManifest
)

func (v verb) writes() bool { return v >= verbMount }

// operation is one call of the interface. It travels in the context of every
// request that is made for it, so that the transport knows what the request is
// for, and carries back what net/http would not tell.
type operation struct {
	verb      verb
	ref       oci.Reference
	repo      oci.Repository
	subject   string
	size      int64  // verbBlob and verbPutBlob: of the whole blob
	at        int64  // verbBlob: how many bytes of it are there
	begun     bool   // verbBlob: its body is being read
	from      string // verbMount: path of the other repository
	deletes   bool   // verbAskWrite: something is to go
	body      []byte // verbPutManifest
	mediaType string // verbPutManifest
	single    bool   // failures but 429 are not repeated: there is another way
	cancel    context.CancelCauseFunc
	over      func() error // why the operation's context has ended, nil while it lives
	keepOpen  bool         // the slot is given back by host.end

	mu       sync.Mutex
	retries  int           // left until bytes move
	limit    int           // what retries is set to when they do
	backoff  time.Duration // the next pause
	first    time.Duration // what backoff is set to when bytes move
	wait     time.Duration // before the next request
	requests int           // since bytes moved
	sent     time.Time     // the last request
	failure  *fault.Error  // final; the operation is over
	refusal  *fault.Error  // of the last answer, nil when it was a success
	status   int           // of the last answer
	code     string        // of the last refusal, as the distribution-spec names it
	answer   *answer       // of a verb whose answer is read whole: the success
	session  *url.URL      // open upload
	early    bool          // a chunk was answered as if it were the whole blob
}

// answer is a success as the registry sent it.
type answer struct {
	header http.Header
	body   []byte
}

type operationKey struct{}

func operationOf(ctx context.Context) *operation {
	op, _ := ctx.Value(operationKey{}).(*operation)
	return op
}

func newOperation(v verb, r oci.Reference) *operation {
	return &operation{verb: v, ref: r, repo: r.Repository, subject: r.String()}
}

// begin marks ctx and makes it end with the operation, or at its deadline.
func (op *operation) begin(ctx context.Context, opts Options) context.Context {
	op.limit, op.first = opts.Retries, opts.Backoff
	op.moved()
	ctx, stop := withDeadline(context.WithValue(ctx, operationKey{}, op), opts.Timeout)
	ctx, cancel := context.WithCancelCause(ctx)
	op.cancel = func(cause error) { cancel(cause); stop() }
	op.over = func() error { return context.Cause(ctx) }
	return ctx
}

// errDeadline ends an operation that took longer than Options.Timeout.
var errDeadline = errors.New("the deadline of the operation has expired")

func deadlineFault(subject string) *fault.Error {
	return fault.New(fault.Transient, subject, errDeadline).Because(fault.Timeout).
		Hint("run the same command again with a longer --timeout or D8_MIRROR_TIMEOUT, or with 0 for none")
}

// withDeadline makes ctx end after timeout, or never where that is 0.
func withDeadline(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, timeout, errDeadline)
}

// moved notes that bytes arrived: the registry is alive, patience starts anew.
func (op *operation) moved() {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.retries, op.backoff, op.requests = op.limit, op.first, 0
}

// sending notes when a request is sent.
func (op *operation) sending(now time.Time) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.sent = now
}

// lastSent is when the last request was sent.
func (op *operation) lastSent() time.Time {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.sent
}

// fail ends the operation: what else it has under way stops because the context is
// over.
func (op *operation) fail(err *fault.Error) error {
	op.mu.Lock()
	if op.failure == nil {
		op.failure = err
	}
	err = op.failure
	op.mu.Unlock()
	op.cancel(err)
	return err
}

// refused notes a refusal without ending the operation.
func (op *operation) refused(status int, code string, err *fault.Error) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.status, op.code, op.refusal = status, code, err
}

// nextPause spends one repetition and tells how long to wait before it.
func (op *operation) nextPause() (time.Duration, bool) {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.retries <= 0 {
		return 0, false
	}
	op.retries--
	pause := op.backoff
	op.backoff = min(2*op.backoff, maxBackoff)
	return pause*3/4 + rand.N(pause/2+1), true // spread, so that clients do not return together
}

// maxBackoff bounds the doubling pause; maxRetryAfter is the longest pause
// that a registry may ask for before we rather tell the operator.
const (
	maxBackoff    = 30 * time.Second
	maxRetryAfter = 5 * time.Minute
)

// fault says what ended the operation, in the words of whoever noticed first.
func (op *operation) fault(caller context.Context, err error) error {
	op.mu.Lock()
	failure, refusal := op.failure, op.refusal
	op.mu.Unlock()
	switch {
	case op.over != nil && errors.Is(op.over(), errDeadline), errors.Is(context.Cause(caller), errDeadline):
		// Before all else: a deadline is a failure, whatever it interrupted, and
		// never the word of the registry (S2.3, S9 row 61).
		return deadlineFault(op.subject)
	case caller.Err() != nil:
		return fault.New(fault.KindOf(caller.Err()), op.subject, caller.Err())
	case failure != nil:
		return failure
	case errors.As(err, &failure):
		return failure
	case refusal != nil:
		return refusal
	}
	return fault.New(fault.Protocol, op.subject, withoutURL(err)).
		Hint("check that %s is a registry and not a web page in front of it", op.repo.Host)
}

// withoutURL takes the address out of net/http's errors: it may be signed (N8).
func withoutURL(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return urlErr.Err
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
