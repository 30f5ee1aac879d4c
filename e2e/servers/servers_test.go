package servers

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServersSpeakTheProtocol(t *testing.T) {
	for name, start := range map[string]func(testing.TB) string{
		"distribution":    Distribution,
		"docker-registry": DockerRegistry,
		"olareg":          func(t testing.TB) string { return Olareg(t, t.TempDir()) },
		"olareg, empty":   OlaregEmpty,
	} {
		t.Run(name, func(t *testing.T) {
			if status, _ := get(t, "http://"+start(t)+"/v2/"); status != http.StatusOK {
				t.Errorf("GET /v2/ answers %d", status)
			}
		})
	}
}

// The golden source registry is served this way.
func TestOlaregServesLayouts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	const blob = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
		"index.json": `{"schemaVersion":2,"manifests":[]}`,
		"blobs/sha256/" + strings.TrimPrefix(blob, "sha256:"): "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	status, body := get(t, "http://"+Olareg(t, filepath.Dir(filepath.Dir(dir)))+"/v2/a/b/blobs/"+blob)
	if status != http.StatusOK || body != "x" {
		t.Errorf("the blob is answered with %d %q", status, body)
	}
}

func TestRecorded(t *testing.T) {
	addr, log := Recorded(t, Distribution(t))
	_, absent := get(t, "http://"+addr+"/v2/a/manifests/v1")
	post, err := http.Post("http://"+addr+"/v2/a/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	post.Body.Close()
	location := post.Header.Get("Location")
	if !strings.HasPrefix(location, "http://"+addr+"/") {
		t.Errorf("the upload continues at %s, past the recorder at %s", location, addr)
	}
	patch, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, location, strings.NewReader("12345"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(patch)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	path := patch.URL.Path
	want := []Request{
		{Method: "GET", Path: "/v2/a/manifests/v1", Status: 404, Received: int64(len(absent))},
		{Method: "POST", Path: "/v2/a/blobs/uploads/", Status: 202},
		{Method: "PATCH", Path: path, Status: 202, Sent: 5},
	}
	if diff := cmp.Diff(want, log.Requests()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if sent, _ := log.Bytes("/blobs/"); sent != 5 || log.Count("", "/blobs/uploads/") != 2 {
		t.Errorf("%d bytes sent in %d requests, want 5 in 2", sent, log.Count("", "/blobs/uploads/"))
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
