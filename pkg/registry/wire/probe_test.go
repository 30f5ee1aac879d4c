package wire_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/fault"
	"ferry/pkg/registry"
	"ferry/pkg/registry/registrytest"
)

// A refusal is an answer to a question, and no error; silence is.
func TestAsk(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault registrytest.Fault
		want  registry.Answer
		err   *fault.Kind
		tries int
	}{
		"refused":    {registrytest.Fault{Status: 400}, registry.Answer{Status: 400, Kind: fault.Protocol, Code: "FAULT", Text: "Bad Request"}, nil, 1},
		"forbidden":  {registrytest.Fault{Status: 403}, registry.Answer{Status: 403, Kind: fault.Denied, Code: "FAULT", Text: "Forbidden"}, nil, 1},
		"a web page": {registrytest.Fault{Status: 405, ContentType: "text/html", Body: "<html>"}, registry.Answer{Status: 405, Kind: fault.Unsupported}, nil, 1},
		"fails":      {registrytest.Fault{Status: 500}, registry.Answer{Status: 500, Kind: fault.Transient, Code: "FAULT", Text: "Internal Server Error"}, nil, 3},
		"not there":  {registrytest.Fault{Status: 501}, registry.Answer{Status: 501, Kind: fault.Unsupported, Code: "FAULT", Text: "Not Implemented"}, nil, 1},
		"cut":        {registrytest.Fault{Drop: true}, registry.Answer{}, fault.Transient, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.fault.Times = registrytest.Always
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				srv := start(t)
				srv.Inject(tc.fault)
				q := registry.Question{Method: method, Repository: srv.Repository("a"), Path: "/manifests/t"}
				if method == "PUT" {
					q.Body, q.MediaType = []byte("{}"), "text/plain"
				}
				got, err := newClient(t).Ask(t.Context(), q)
				if fault.KindOf(err) != tc.err {
					t.Errorf("%s: error %v, want %v", method, err, tc.err)
				}
				same := cmp.Comparer(func(a, b *fault.Kind) bool { return a == b })
				if diff := cmp.Diff(tc.want, got, same); diff != "" {
					t.Errorf("%s (-want +got):\n%s", method, diff)
				}
				if n := len(srv.Requests()); n != tc.tries {
					t.Errorf("%s: %d requests, want %d", method, n, tc.tries)
				}
			}
		})
	}
}

// An upload that a question opens is cancelled, whatever becomes of what is sent.
func TestAskUpload(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault               registrytest.Fault
		trial               registry.Trial
		begin, sent, cancel int
		bytes               int64
	}{
		"begun":                       {begin: 202, cancel: 204},
		"refused":                     {fault: registrytest.Fault{Method: "POST", Status: 403}, trial: registry.Trial{Zeros: 10}, begin: 403},
		"a chunk":                     {trial: registry.Trial{Zeros: 1 << 20}, begin: 202, sent: 202, cancel: 204, bytes: 1 << 20},
		"a chunk that is too large":   {fault: registrytest.Fault{Method: "PATCH", Status: 413}, trial: registry.Trial{Zeros: 8 << 20}, begin: 202, sent: 413, cancel: 204},
		"a chunk, and no new address": {fault: registrytest.Fault{Method: "PATCH", Status: 202, ContentType: "text/plain"}, trial: registry.Trial{Zeros: 10}, begin: 202, sent: 202, cancel: 204},
		"whole":                       {trial: registry.Trial{Zeros: 1 << 20, Whole: true}, begin: 202, sent: 400, cancel: 404, bytes: 1 << 20},
		"whole, and too large":        {fault: registrytest.Fault{Method: "PUT", Status: 413}, trial: registry.Trial{Zeros: 8 << 20, Whole: true}, begin: 202, sent: 413, cancel: 204},
		"cannot be cancelled":         {fault: registrytest.Fault{Method: "DELETE", Status: 405}, begin: 202, cancel: 405},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			// Who refuses by size must not be sent all first: the bytes wait to be wanted.
			var waited atomic.Bool
			srv.Inject(registrytest.Fault{Match: func(r *http.Request) bool {
				if r.ContentLength > 0 {
					waited.Store(r.Header.Get("Expect") == "100-continue")
				}
				return false
			}})
			if tc.fault.Method != "" {
				tc.fault.Times = registrytest.Always
				srv.Inject(tc.fault)
			}
			got, err := newClient(t).AskUpload(t.Context(), srv.Repository("a"), tc.trial)
			if err != nil || got.Begin.Status != tc.begin || got.Sent.Status != tc.sent || got.Cancel.Status != tc.cancel {
				t.Errorf("begun %d, sent %d, cancelled %d (%v), want %d, %d, %d", got.Begin.Status, got.Sent.Status, got.Cancel.Status, err, tc.begin, tc.sent, tc.cancel)
			}
			if n := srv.OpenUploads(); n != 0 && tc.cancel != 405 {
				t.Errorf("%d uploads are open", n)
			}
			if sends := tc.trial.Zeros > 0 && tc.begin == 202; waited.Load() != sends {
				t.Errorf("bytes waited to be wanted: %v, want %v", waited.Load(), sends)
			}
			var came int64
			for _, r := range srv.Requests() {
				came += r.BytesIn
			}
			if came != tc.bytes {
				t.Errorf("%d bytes came, want %d: who refuses by size is not sent them", came, tc.bytes)
			}
		})
	}
}

// A mount that becomes an upload is cancelled, too.
func TestAskedMountLeavesNothing(t *testing.T) {
	t.Parallel()
	srv := start(t, registrytest.Q5Mount(http.StatusAccepted))
	got, err := newClient(t).Ask(t.Context(), registry.Question{
		Method: "POST", Repository: srv.Repository("a"), Path: "/blobs/uploads/", From: "b",
		Query: map[string][]string{"mount": {"sha256:" + strings.Repeat("0", 64)}, "from": {"b"}},
	})
	if err != nil || got.Status != 202 {
		t.Errorf("answered %d (%v), want 202", got.Status, err)
	}
	if n := srv.OpenUploads(); n != 0 {
		t.Errorf("%d uploads are open", n)
	}
}
