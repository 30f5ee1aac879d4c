// Package servers starts the real registries and finds the real tools that
// ferry must get along with, for tests.
//
// What is a program of the system is skipped where it is not installed; where
// the environment has CI set, its absence fails the test instead, so that a
// green run there has tried everything.
package servers

import (
	"bufio"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the driver of Distribution
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/sirupsen/logrus"
)

// Distribution starts a distribution v3 registry in this process, with its
// content in a temporary directory, and returns its host:port.
func Distribution(t testing.TB) string {
	t.Helper()
	host, _ := DistributionIn(t)
	return host
}

// DistributionIn is Distribution, and returns the directory of its content too.
func DistributionIn(t testing.TB) (host, root string) {
	t.Helper()
	root = t.TempDir()
	conf := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": root},
			"delete":     {"enabled": true},
		},
	}
	logrus.SetOutput(io.Discard) // the registry's log has no other switch from outside
	conf.HTTP.Secret = "test"    // of upload sessions; random ones are warned about
	conf.Validation.Manifests.Indexes.Platforms = "all"
	app := handlers.NewApp(t.Context(), conf)
	server := httptest.NewServer(app)
	t.Cleanup(func() {
		server.Close()
		if err := app.Shutdown(); err != nil {
			t.Errorf("distribution: %v", err)
		}
	})
	return hostOf(server.URL), root
}

// Olareg serves dir, an OCI layout a repository, read-only, and returns its
// host:port.
func Olareg(t testing.TB, dir string) string {
	t.Helper()
	yes := true
	return startOlareg(t, config.ConfigStorage{StoreType: config.StoreDir, RootDir: dir, ReadOnly: &yes})
}

// OlaregEmpty starts an olareg with nothing in it, which has the referrers API, and
// returns its host:port. It keeps its content in memory.
func OlaregEmpty(t testing.TB) string {
	t.Helper()
	return startOlareg(t, config.ConfigStorage{StoreType: config.StoreMem})
}

func startOlareg(t testing.TB, storage config.ConfigStorage) string {
	t.Helper()
	registry := olareg.New(config.Config{Storage: storage})
	server := httptest.NewServer(registry)
	t.Cleanup(func() {
		server.Close()
		if err := registry.Close(); err != nil {
			t.Errorf("olareg: %v", err)
		}
	})
	return hostOf(server.URL)
}

// User and Password log in to [DockerRegistryWithLogin].
const (
	User     = "license-token"
	Password = "hunter2"
	// bcrypt, the one hash that the registry takes, of Password.
	htpasswd = User + ":$2a$04$mfG8X0OFleuZdmeYobZWe.vyIbC/oN9fstkk.4yVpvzI.OXNPhp.S\n"
)

// DockerRegistry starts Debian's docker-registry (distribution v2) and returns
// its host:port.
func DockerRegistry(t testing.TB) string {
	t.Helper()
	return dockerRegistry(t, "")
}

// DockerRegistryWithLogin starts a docker-registry that nobody may use without
// User and Password.
func DockerRegistryWithLogin(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte(htpasswd), 0o600); err != nil {
		t.Fatal(err)
	}
	return dockerRegistry(t, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", path))
}

// dockerRegistry starts one with further lines of configuration.
func dockerRegistry(t testing.TB, more string) string {
	t.Helper()
	program := find(t, "docker-registry")
	dir := t.TempDir()
	conf := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: '127.0.0.1:0', secret: test}\n", dir)
	if err := os.WriteFile(conf, []byte(text+more), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", conf)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says "killed"
	})
	return listening(t, bufio.NewScanner(log))
}

var listeningRE = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// listening waits for the line that names the port. The rest of the log is
// read to keep the pipe from filling up.
func listening(t testing.TB, log *bufio.Scanner) string {
	t.Helper()
	var lines []string
	for log.Scan() {
		if found := listeningRE.FindStringSubmatch(log.Text()); found != nil {
			go func() {
				for log.Scan() {
				}
			}()
			return found[1]
		}
		lines = append(lines, log.Text())
	}
	t.Fatalf("docker-registry ended before it listened:\n%s", strings.Join(lines, "\n"))
	return ""
}

// Skopeo returns the path of the skopeo program.
func Skopeo(t testing.TB) string {
	t.Helper()
	return find(t, "skopeo")
}

func find(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s is not installed, and CI is set", program)
	default:
		t.Skipf("%s is not installed", program)
	}
	return ""
}

func hostOf(url string) string { return strings.TrimPrefix(url, "http://") }
