package wire_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"ferry/pkg/registry/registrytest"
)

const (
	smallBlob = 4 << 10
	largeBlob = 64 << 20
	// callerBuffer is what callers read a blob with.
	callerBuffer = 512 << 10
)

// childServe is a registry in a process of its own, so that the processor time
// of a benchmark is the client's alone. It ends with its input.
func childServe() {
	reg := registrytest.New()
	reg.PutBlob("a", randomBytes(smallBlob))
	reg.PutBlob("a", randomBytes(largeBlob))
	reg.PutImage("a", "v1", []byte("layer"))
	mux := http.NewServeMux()
	mux.Handle("/v2/", reg)
	mux.HandleFunc("PUT /sink", func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, req.Body, make([]byte, callerBuffer))
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("POST /v2/sink/blobs/uploads/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/sink")
		w.WriteHeader(http.StatusAccepted)
	})
	fmt.Println(strings.TrimPrefix(httptest.NewServer(mux).URL, "http://"))
	_, _ = io.Copy(io.Discard, os.Stdin)
}
