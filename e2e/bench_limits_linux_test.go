package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// This file does the least that any program must do in a stage's place, as
// plainly as it can be written: no resuming, no checks, no durability but one
// sync at the end.

const (
	workers     = 8       // the default of --parallel
	limitBuffer = 1 << 20 // bytes per read and write, as the stages have
)

// timed measures f, which begins with nothing left to be written, and with dirs
// on disk alone.
func (c *carrier) timed(f func() error, dirs ...string) time.Duration {
	c.b.Helper()
	c.settle(dirs...)
	began := time.Now()
	if err := f(); err != nil {
		c.b.Fatal(err)
	}
	return time.Since(began)
}

// each calls f for every blob, in workers goroutines; a buffer goes with
// each of them.
func each(ctx context.Context, blobs []contract.Blob, f func(ctx context.Context, blob contract.Blob, buf []byte) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work := make(chan contract.Blob)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			buf := make([]byte, limitBuffer)
			for blob := range work {
				if ctx.Err() != nil {
					continue
				}
				if err := f(ctx, blob, buf); err != nil {
					stop(fmt.Errorf("%s: %w", blob.Digest, err))
				}
			}
		})
	}
	for _, blob := range blobs {
		work <- blob
	}
	close(work)
	running.Wait()
	return context.Cause(ctx)
}

// httpClient keeps a connection for each worker.
func httpClient() (client *http.Client, closeIdle func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: workers, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

// getAll downloads and hashes every blob, into files of a directory of the
// benchmark, or, without one, to nowhere.
func (c *carrier) getAll(name string) time.Duration {
	c.b.Helper()
	client, closeIdle := httpClient()
	defer closeIdle()
	return c.timed(func() error {
		err := each(c.b.Context(), c.contents.Blobs, func(ctx context.Context, blob contract.Blob, buf []byte) error {
			if name == "" {
				return get(ctx, client, blob, io.Discard, buf)
			}
			f, err := os.Create(filepath.Join(c.dir(name), blob.Digest.Hex()))
			if err != nil {
				return err
			}
			return errors.Join(get(ctx, client, blob, f, buf), f.Close())
		})
		if name != "" {
			c.settle()
		}
		return err
	})
}

func get(ctx context.Context, client *http.Client, blob contract.Blob, to io.Writer, buf []byte) error {
	repo, err := oci.ParseRepository(blob.Repository)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/v2/%s/blobs/%s", repo.Host, repo.Path, blob.Digest), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	hash := sha256.New()
	if _, err := io.CopyBuffer(io.MultiWriter(hash, to), plain{resp.Body}, buf); err != nil {
		return err
	}
	if got := oci.DigestFromSum(hash.Sum(nil)); got != blob.Digest {
		return fmt.Errorf("status %d with content %s", resp.StatusCode, got)
	}
	return nil
}

// plain keeps io.Copy from looking for more methods than Read.
type plain struct{ io.Reader }

// copyAll copies the files of dir into one directory of the benchmark, as cp
// and sync do.
func (c *carrier) copyAll(dir, name string) time.Duration {
	c.b.Helper()
	return c.timed(func() error {
		defer c.settle()
		return os.CopyFS(c.dir(name), os.DirFS(dir))
	}, dir)
}

// hashAll reads and hashes the archives of a bundle, one after the other.
func (c *carrier) hashAll(dir string) time.Duration {
	c.b.Helper()
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil || len(archives) == 0 {
		c.b.Fatalf("no archives in %s: %v", dir, err)
	}
	return c.timed(func() error {
		buf := make([]byte, limitBuffer)
		for _, path := range archives {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			_, err = io.CopyBuffer(sha256.New(), plain{f}, buf)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
		return nil
	}, dir)
}

// putAll uploads every blob from the archives to an empty registry, in one
// request each.
func (c *carrier) putAll(dir string) time.Duration {
	c.b.Helper()
	target := registryOn(c.b, c.dir("target"))
	defer c.remove("target")
	doc, _, err := bundle.ReadDocument(dir)
	if err != nil {
		c.b.Fatal(err)
	}
	archives, err := bundle.Open([]contract.ArchiveDirectory{{Path: dir, Archives: doc.Spec.Archives}})
	if err != nil {
		c.b.Fatal(err)
	}
	defer archives.Close()
	client, closeIdle := httpClient()
	defer closeIdle()
	return c.timed(func() error {
		return each(c.b.Context(), c.contents.Blobs, func(ctx context.Context, blob contract.Blob, _ []byte) error {
			return put(ctx, client, target.host, archives, blob)
		})
	}, dir)
}

func put(ctx context.Context, client *http.Client, host string, content store.Reader, blob contract.Blob) error {
	body, err := content.Open(blob.Digest)
	if err != nil {
		return err
	}
	defer body.Close()
	url := fmt.Sprintf("http://%s/v2/limit/blobs/uploads/?digest=%s", host, blob.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, plain{body})
	if err != nil {
		return err
	}
	req.ContentLength = blob.Size
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		var text bytes.Buffer
		_, _ = io.CopyN(&text, resp.Body, 500)
		return fmt.Errorf("status %d: %s", resp.StatusCode, &text)
	}
	return nil
}
