package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// TestChunksGoOn (N12): what breaks an upload in chunks costs no more than was
// lost. The registry is asked where to go on, at most twice in a row; where that
// does not help the upload begins anew, and the first one is cancelled.
func TestChunksGoOn(t *testing.T) {
	t.Parallel()
	const refusal = `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}`
	// Chunks of half the blob are refused as too large; half of that passes, and is
	// what went through when the next one breaks.
	const half = 5 << 20 / 4
	patch := func(f registrytest.Fault) registrytest.Fault {
		f.Kind, f.Method, f.Skip = registrytest.KindUpload, "PATCH", 2
		return f
	}
	status := func(f registrytest.Fault) registrytest.Fault {
		f.Kind, f.Method, f.Times = registrytest.KindUpload, "GET", registrytest.Always
		return f
	}
	says := func(header string) registrytest.Fault {
		return status(registrytest.Fault{Status: 204, ContentType: "text/plain", Header: http.Header{"Range": {header}}})
	}
	for name, tt := range map[string]struct {
		faults  []registrytest.Fault
		cut     int64 // of the second chunk that passes so many bytes are kept, and nothing is answered
		again   int64 // bytes that are sent twice
		uploads int
		asked   int
	}{
		"nothing":                {nil, 0, 0, 1, 0},
		"cut in a chunk":         {nil, 300_000, 0, 1, 1},
		"cut after one byte":     {nil, 1, 0, 1, 1},
		"answer is lost":         {[]registrytest.Fault{patch(registrytest.Fault{LoseAnswer: true})}, 0, 0, 1, 1},
		"dropped":                {[]registrytest.Fault{patch(registrytest.Fault{Drop: true})}, 0, 0, 1, 1},
		"503":                    {[]registrytest.Fault{patch(registrytest.Fault{Status: 503})}, 0, 0, 1, 1},
		"503 six times":          {[]registrytest.Fault{patch(registrytest.Fault{Status: 503, Times: 6})}, 0, half, 3, 4},
		"416":                    {[]registrytest.Fault{patch(registrytest.Fault{Status: 416})}, 0, 0, 1, 1},
		"silence":                {[]registrytest.Fault{patch(registrytest.Fault{Stall: true})}, 0, 0, 1, 1},
		"status is forgotten":    {[]registrytest.Fault{status(registrytest.Fault{Status: 404, Body: refusal})}, 300_000, half + 300_000, 2, 1},
		"status fails":           {[]registrytest.Fault{status(registrytest.Fault{Status: 503})}, 300_000, half + 300_000, 2, 2},
		"status is too far":      {[]registrytest.Fault{says("0-5242879")}, 300_000, half + 300_000, 2, 1},
		"status is no range":     {[]registrytest.Fault{says("all")}, 300_000, half + 300_000, 2, 1},
		"status is stuck":        {[]registrytest.Fault{says("0-2097151")}, 300_000, half + 300_000, 2, 2},
		"status is without one":  {[]registrytest.Fault{status(registrytest.Fault{Status: 204, ContentType: "text/plain"})}, 300_000, half + 300_000, 2, 1},
		"status is a web page":   {[]registrytest.Fault{status(registrytest.Fault{Body: "<html>", ContentType: "text/html"})}, 300_000, half + 300_000, 2, 1},
		"status leads elsewhere": {[]registrytest.Fault{status(registrytest.Fault{Status: 204, ContentType: "x/y", Header: http.Header{"Location": {"http://evil.test/x"}}})}, 300_000, -1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reg *registrytest.Registry
			chunks := 0
			handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodPatch {
					if chunks++; chunks == 3 && tt.cut > 0 {
						req.Body = io.NopCloser(io.LimitReader(req.Body, tt.cut))
						reg.ServeHTTP(httptest.NewRecorder(), req)
						panic(http.ErrAbortHandler)
					}
				}
				reg.ServeHTTP(w, req)
			})
			inFakeTime(t, handler, nil, func(t *testing.T, c *Client, repo oci.Repository) {
				reg = registrytest.New(registrytest.Q8Limit(413, 2<<20))
				for _, f := range tt.faults {
					reg.Inject(f)
				}
				blob := bytes.Repeat([]byte("0123456789abcdef"), 5<<16)
				desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
				err := c.PutBlob(t.Context(), repo, desc, bytes.NewReader(blob))
				reg.Release()
				if tt.again < 0 {
					if fault.KindOf(err) != fault.Protocol {
						t.Errorf("got %v", err)
					}
					return
				}
				if err != nil || !bytes.Equal(reg.Content(desc.Digest), blob) {
					t.Fatalf("the blob is not there: %v", err)
				}
				counts, sent := map[string]int{}, int64(0)
				for _, req := range reg.Requests() {
					counts[req.Method]++
					if req.Method == http.MethodPatch && req.Status < 300 {
						sent += req.BytesIn
					}
				}
				// What a registry keeps of a chunk that it does not answer counts, too.
				if want := desc.Size + tt.again; sent != want && !(tt.cut == 1 && sent == want+1) {
					t.Errorf("%d bytes went to the registry, want %d", sent, want)
				}
				// One more was the try to send the blob whole, which is not repeated.
				if counts["GET"] != tt.asked || counts["POST"] != 1+tt.uploads {
					t.Errorf("%d uploads were begun and %d questions asked, want %d and %d", counts["POST"], counts["GET"], 1+tt.uploads, tt.asked)
				}
				if n := reg.OpenUploads(); n != 0 {
					t.Errorf("%d uploads are open", n)
				}
			})
		})
	}
}

// TestChunksOfABrokenDisk: no question heals what fails here.
func TestChunksOfABrokenDisk(t *testing.T) {
	t.Parallel()
	var reg *registrytest.Registry
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { reg.ServeHTTP(w, req) })
	inFakeTime(t, handler, nil, func(t *testing.T, c *Client, repo oci.Repository) {
		reg = registrytest.New(registrytest.Q8Limit(413, 1<<20))
		blob := bytes.Repeat([]byte("x"), 3<<20)
		desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
		began := time.Now()
		err := c.PutBlob(t.Context(), repo, desc, &brokenBehind{bytes.NewReader(blob), 2 << 20})
		if fault.KindOf(err) != fault.Local || time.Since(began) > time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if n := reg.OpenUploads(); n != 0 {
			t.Errorf("%d uploads are open", n)
		}
	})
}

// brokenBehind cannot be read from a place on.
type brokenBehind struct {
	*bytes.Reader
	place int64
}

func (b *brokenBehind) Read(p []byte) (int, error) {
	at, err := b.Seek(0, io.SeekCurrent)
	if err == nil && at >= b.place {
		return 0, errors.New("input/output error")
	}
	return b.Reader.Read(p[:min(int64(len(p)), b.place-at)])
}

// A registry that wants large chunks gets them.
func TestChunksAreAsLargeAsWanted(t *testing.T) {
	t.Parallel()
	var reg *registrytest.Registry
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost {
			w.Header().Set("OCI-Chunk-Min-Length", fmt.Sprint(3<<20))
		}
		reg.ServeHTTP(w, req)
	})
	inFakeTime(t, handler, nil, func(t *testing.T, c *Client, repo oci.Repository) {
		reg = registrytest.New(registrytest.Q8Limit(413, 4<<20))
		blob := bytes.Repeat([]byte("0123456789abcdef"), 7<<16)
		desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
		if err := c.PutBlob(t.Context(), repo, desc, bytes.NewReader(blob)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, req := range reg.Requests() {
			if req.Method == http.MethodPatch {
				got = append(got, fmt.Sprint(req.BytesIn>>20))
			}
		}
		if got := strings.Join(got, " "); got != "3 3" { // 3.5 each
			t.Errorf("chunks of %s MB", got)
		}
	})
}
