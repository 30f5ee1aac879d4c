//go:build unix

package wire_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferry/pkg/oci"
	"ferry/pkg/registry/wire"
)

// registryProcess starts childServe and returns its host.
func registryProcess(b *testing.B) string {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), exe)
	cmd.Env = append(os.Environ(), "WIRE_TEST_SERVE=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // cancelled with the benchmark's context
	})
	host, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(host)
}

// cpu is the processor time of this process.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// compare runs ours b.N times, between as many runs of the bare http.Client, and
// reports the processor time of one run and the ratio of the two.
func compare(b *testing.B, batch int, ours, bare func() error) {
	b.Helper()
	run := func(n int, f func() error) (wall, used time.Duration) {
		began, before := time.Now(), cpu(b)
		for range n {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began), cpu(b) - before
	}
	run(1, ours) // connections and logins are made
	run(1, bare)
	var wall, used, bareWall, bareUsed time.Duration
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		n := min(batch, b.N-done)
		w, u := run(n, ours)
		wall, used = wall+w, used+u
		w, u = run(n, bare)
		bareWall, bareUsed = bareWall+w, bareUsed+u
	}
	b.ReportMetric(float64(wall.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(wall)/float64(bareWall), "x-bare")
	b.ReportMetric(float64(used)/float64(bareUsed), "cpu-x-bare")
}

func plainClient(b *testing.B) *wire.Client {
	c, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// drain reads body as a store does, without its work.
func drain(body io.ReadCloser, buf []byte) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, buf)
	body.Close()
	return err
}

// bare asks for address with http.Client alone.
func bare(b *testing.B, method, address string, buf []byte) func() error {
	return func() error {
		req, err := http.NewRequestWithContext(b.Context(), method, address, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return drain(resp.Body, buf)
	}
}

func benchmarkGet(b *testing.B, size, batch int) {
	repo := oci.Repository{Host: registryProcess(b), Path: "a"}
	desc := oci.Descriptor{Digest: oci.DigestOf(randomBytes(size)), Size: int64(size)}
	c, buf := plainClient(b), make([]byte, callerBuffer)
	compare(b, batch, func() error {
		body, _, err := c.Blob(b.Context(), repo, desc, nil)
		if err != nil {
			return err
		}
		return drain(body, buf)
	}, bare(b, http.MethodGet, "http://"+repo.Host+"/v2/a/blobs/"+string(desc.Digest), buf))
}

func BenchmarkGetSmall(b *testing.B) { benchmarkGet(b, smallBlob, 500) }
func BenchmarkGetLarge(b *testing.B) { benchmarkGet(b, largeBlob, 2) }

func BenchmarkPutLarge(b *testing.B) {
	repo := oci.Repository{Host: registryProcess(b), Path: "sink"}
	blob := randomBytes(largeBlob)
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: largeBlob}
	c := plainClient(b)
	compare(b, 2, func() error {
		return c.PutBlob(b.Context(), repo, desc, bytes.NewReader(blob))
	}, func() error {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPut, "http://"+repo.Host+"/sink", struct{ io.Reader }{bytes.NewReader(blob)})
		if err != nil {
			return err
		}
		req.ContentLength = desc.Size
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// BenchmarkManifest is a small answer that is read whole, and HEAD one without
// a body.
func BenchmarkManifest(b *testing.B) {
	repo := oci.Repository{Host: registryProcess(b), Path: "a"}
	c, buf := plainClient(b), make([]byte, callerBuffer)
	address := "http://" + repo.Host + "/v2/a/manifests/v1"
	b.Run("GET", func(b *testing.B) {
		compare(b, 500, func() error { _, _, err := c.Manifest(b.Context(), repo.WithTag("v1")); return err }, bare(b, http.MethodGet, address, buf))
	})
	b.Run("HEAD", func(b *testing.B) {
		compare(b, 500, func() error { _, err := c.Resolve(b.Context(), repo.WithTag("v1")); return err }, bare(b, http.MethodHead, address, buf))
	})
}
