// Package origin is a distribution v3 registry that counts what is asked of it:
// requests by kind, and bytes, those of bodies and those on the wire.
//
// It is meant for a process of its own, so that its time and memory are not
// taken for those of the program that talks to it.
package origin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the driver that keeps content on disk
	"github.com/sirupsen/logrus"
)

// countsPath answers with the counts since it was asked last, as JSON. No
// registry has it.
const countsPath = "/-/counts"

// Serve serves the registry whose content is in dir until ctx ends, and writes
// the registry's log, errors alone, to log.
func Serve(ctx context.Context, dir string, listener net.Listener, log io.Writer) error {
	conf := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": dir},
			"delete":     {"enabled": true},
			"cache":      {"blobdescriptor": "inmemory"}, // as in the configuration that comes with it
		},
	}
	conf.HTTP.Secret = "bench"
	conf.Validation.Manifests.Indexes.Platforms = "all"
	logrus.SetOutput(log) // the registry's log has no other switch from outside
	logrus.SetLevel(logrus.ErrorLevel)
	app := handlers.NewApp(ctx, conf)
	c := &counter{next: app}
	server := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(countingListener{listener, c}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return app.Shutdown()
}

// Counts is what was asked of a registry.
type Counts struct {
	// Requests are their numbers by kind, such as "blob GET".
	Requests map[string]int64 `json:"requests"`
	// Refused is how many of them were answered with 400 or more.
	Refused int64 `json:"refused"`
	// BodyIn and BodyOut are the bytes of bodies that came and went.
	BodyIn  int64 `json:"bodyIn"`
	BodyOut int64 `json:"bodyOut"`
	// WireIn and WireOut are all bytes of the connections.
	WireIn  int64 `json:"wireIn"`
	WireOut int64 `json:"wireOut"`
	// Connections is how many were opened.
	Connections int64 `json:"connections"`
}

// Reset returns the counts of the registry at host, and begins anew.
func Reset(ctx context.Context, host string) (Counts, error) {
	var counts Counts
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+countsPath, nil)
	if err != nil {
		return counts, err
	}
	req.Close = true // a connection that stays would be the next one's
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return counts, err
	}
	defer resp.Body.Close()
	return counts, json.NewDecoder(resp.Body).Decode(&counts)
}
