package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ferry/pkg/registry/registrytest"
)

// seen is what /proc showed of a run: every argument and variable of every process
// below it.
type seen struct {
	argv, environ map[string]bool // "PROGRAM: TEXT"
	programs      map[string]bool
}

// watch looks at a process and all below it until the returned function is called.
func watch(t *testing.T, pid int) func() seen {
	t.Helper()
	s := seen{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			s.look(strconv.Itoa(pid))
			select {
			case <-stop:
				return
			case <-time.After(4 * time.Millisecond):
			}
		}
	})
	return func() seen {
		close(stop)
		done.Wait()
		return s
	}
}

// look notes a process and those below it. One that has ended shows nothing.
func (s *seen) look(pid string) {
	argv, err := os.ReadFile("/proc/" + pid + "/cmdline")
	if err != nil {
		return
	}
	program, _, _ := strings.Cut(string(argv), "\x00")
	program = filepath.Base(program)
	s.programs[program] = true
	for word := range strings.SplitSeq(string(argv), "\x00") {
		s.argv[program+": "+word] = true
		s.programs[filepath.Base(word)] = true // a script's name stands behind its shell
	}
	if environ, err := os.ReadFile("/proc/" + pid + "/environ"); err == nil {
		for variable := range strings.SplitSeq(string(environ), "\x00") {
			s.environ[program+": "+variable] = true
		}
	}
	tasks, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for child := range strings.FieldsSeq(string(children)) {
			s.look(child)
		}
	}
}

// leak is a secret, and the forms that it may show itself in.
func leaks(text string, secrets ...string) string {
	for _, secret := range secrets {
		for _, form := range []string{
			secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("user:" + secret)),
			base64.StdEncoding.EncodeToString([]byte("license-token:" + secret)),
		} {
			if strings.Contains(text, strings.TrimRight(form, "=")) {
				return form
			}
		}
	}
	return ""
}

// N8, S2.2.3: a run that goes wrong in many ways, at log level debug, leaves the
// password, wherever it came from, in no argument, file, report, log or document;
// and in no environment but where it came from one. Neither does it leave tokens, or
// what the address of a blob or an upload is signed with.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	if _, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", syscall.Gettid())); errors.Is(err, fs.ErrNotExist) {
		t.Skip("this kernel does not tell the children of a process")
	}
	const signed = "MARKER-of-a-signature"
	for _, place := range []string{"environment", "licence", "file", "stdin", "docker", "helper"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			password, user := "MARKER-of-"+place, "user"
			if place == "licence" {
				user = "license-token"
			}
			src, target := guarded(t, user, password), guarded(t, user, password)
			// What the registries repeat, and where they send the client.
			basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
			echo := func(status int) registrytest.Fault {
				text, err := json.Marshal(map[string]any{"errors": []map[string]string{{"code": "X", "message": "Authorization: Basic " + basic + " for " + password}}})
				if err != nil {
					t.Fatal(err)
				}
				return registrytest.Fault{Status: status, ContentType: "application/json", Body: string(text), Times: 1}
			}
			cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintf(w, `{"errors":[{"code":"X","message":"%s was signed wrongly"}]}`, r.URL.RawQuery)
			}))
			defer cdn.Close()
			for _, server := range []*registrytest.Server{src, target} {
				for _, kind := range []registrytest.Kind{registrytest.KindToken, registrytest.KindManifest, registrytest.KindBlob, registrytest.KindUpload} {
					for _, status := range []int{500, 503} {
						f := echo(status)
						f.Kind, f.Skip = kind, 1
						server.Inject(f)
					}
				}
				server.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Skip: 3, Status: 401, Times: 1})
				server.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 4, Times: 1, Status: 307,
					Header: http.Header{"Location": {cdn.URL + "/blob?signature=" + signed}}})
			}
			dir, home := t.TempDir(), t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			docker := at("docker")
			tell := func(host string) []string { return nil } // flags of a stage
			var env []string
			switch place {
			case "environment":
				env = []string{"D8_MIRROR_SOURCE_LOGIN=user", "D8_MIRROR_SOURCE_PASSWORD=" + password, "D8_MIRROR_REGISTRY_LOGIN=user", "D8_MIRROR_REGISTRY_PASSWORD=" + password}
			case "licence":
				env = []string{"D8_MIRROR_LICENSE_TOKEN=" + password, "D8_MIRROR_REGISTRY_LOGIN=" + user, "D8_MIRROR_REGISTRY_PASSWORD=" + password}
			case "file":
				tell = func(string) []string {
					return []string{"--login", user, "--password-file", filepath.Join(home, "password")}
				}
				writeSecret(t, filepath.Join(home, "password"), password+"\n", 0o600)
			case "stdin":
				tell = func(string) []string { return []string{"--login", user, "--password-stdin"} }
			case "docker", "helper":
				docker = filepath.Join(home, ".docker")
				config := map[string]any{"auths": map[string]any{src.Host: map[string]string{"auth": basic}, target.Host: map[string]string{"username": user, "password": password}}}
				if place == "helper" {
					config = map[string]any{"credHelpers": map[string]string{src.Host: "marked", target.Host: "marked"}}
					writeSecret(t, filepath.Join(home, "docker-credential-marked"),
						"#!/bin/sh\nread host\nsleep 0.05\n/bin/cat "+filepath.Join(home, "answer"), 0o700)
					answer, _ := json.Marshal(map[string]string{"ServerURL": "x", "Username": user, "Secret": password})
					writeSecret(t, filepath.Join(home, "answer"), string(answer), 0o600)
				}
				text, err := json.Marshal(config)
				if err != nil {
					t.Fatal(err)
				}
				writeSecret(t, filepath.Join(docker, "config.json"), string(text), 0o600)
			}
			all := seen{map[string]bool{}, map[string]bool{}, map[string]bool{}}
			step := func(name string, codes []int, args ...string) {
				t.Helper()
				cmd := program(t, name, args...)
				cmd.Env = append([]string{"PATH=" + binaries + ":" + home + ":" + os.Getenv("PATH"), "HOME=" + home, "DOCKER_CONFIG=" + docker}, env...)
				cmd.Dir = dir
				cmd.Stdin = strings.NewReader("")
				if place == "stdin" {
					cmd.Stdin = strings.NewReader(password + "\n")
				}
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := watch(t, cmd.Process.Pid)
				_ = cmd.Wait()
				s := ended()
				for _, pair := range [][2]map[string]bool{{s.argv, all.argv}, {s.environ, all.environ}, {s.programs, all.programs}} {
					for text := range pair[0] {
						pair[1][text] = true
					}
				}
				if code := cmd.ProcessState.ExitCode(); !slices.Contains(codes, code) {
					t.Errorf("%s: exit status %d, want %v\n%s", name, code, codes, &stderr)
				}
				if !strings.Contains(stderr.String(), "debug: ") {
					t.Errorf("%s logs nothing:\n%s", name, &stderr)
				}
				for what, text := range map[string]string{"stdout": stdout.String(), "stderr": stderr.String()} {
					for _, marker := range []string{signed, "Bearer ", "signature="} {
						if strings.Contains(text, marker) {
							t.Errorf("%s of %s has %q:\n%s", what, name, marker, lineWith(text, marker))
						}
					}
					if form := leaks(text, password); form != "" {
						t.Errorf("%s of %s has %q:\n%s", what, name, form, lineWith(text, form))
					}
				}
				writeSecret(t, at(fmt.Sprintf("log-%d", len(all.argv))), stderr.String(), 0o600)
			}
			common := func(report string) []string {
				return []string{"--insecure", "--log-level", "debug", "--retries", "2", "--report", at(report + ".report.json"), "--summary", at(report + ".summary")}
			}
			from, to := src.Host+"/deckhouse/ee", target.Host+"/mirror"
			ok := []int{0}
			step("ferry-discover", ok, slices.Concat([]string{"deckhouse", "--source", from, "-o", at("catalog.json"), "--keep", at("kept.json"), "--store", at("store")}, common("discover"), tell(from))...)
			selected := run(t, readText(t, at("catalog.json")), "ferry-select")
			writeSecret(t, at("selection.json"), selected, 0o600)
			fetch := slices.Concat([]string{"-i", at("selection.json"), "--store", at("store"), "--bundle", at("disk"), "-o", at("inventory.json")}, common("fetch"), tell(from))
			// It is cut in the middle, for what it leaves then, and goes on.
			src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 20, Status: 401, Times: registrytest.Always})
			step("ferry-fetch", []int{77}, append(fetch, "--report", at("cut.report.json"))...)
			leftNothing(t, dir, password, signed)
			src.Heal()
			step("ferry-fetch", ok, fetch...)
			run(t, readText(t, at("inventory.json")), "ferry-pack", at("disk"))
			publish := slices.Concat([]string{"-i", at("inventory.json"), to, "-o", at("receipt.json")}, common("publish"), tell(to))
			bad := echo(403)
			bad.Kind, bad.Method, bad.Skip, bad.Times = registrytest.KindManifest, "PUT", 5, registrytest.Always
			target.Inject(bad)
			step("ferry-publish", []int{77}, append(publish, "--report", at("cut.report.json"))...)
			target.Heal()
			target.Inject(registrytest.Fault{Kind: registrytest.KindUpload, Method: "POST", Status: 202, ContentType: "x/y", Times: 1,
				Header: http.Header{"Location": {cdn.URL + "/upload?signature=" + signed}}})
			step("ferry-publish", []int{76, 77}, publish...)
			target.Heal()
			step("ferry-publish", ok, publish...)
			step("ferry-publish", ok, slices.Concat([]string{"verify", "-i", at("disk/bundle.json"), to, "-o", at("verified.json")}, common("verify"), tell(to))...)

			leftNothing(t, dir, password, signed)
			for _, name := range []string{"ferry-discover", "ferry-fetch", "ferry-publish"} {
				if !all.programs[name] {
					t.Errorf("%s was not seen: the test proves nothing", name)
				}
			}
			if place == "helper" && !all.programs["docker-credential-marked"] {
				t.Errorf("the helper was not seen: the test proves nothing; seen were %v", all.programs)
			}
			for text := range all.argv {
				if form := leaks(text, password, signed); form != "" {
					t.Errorf("an argument: %s", text)
				}
			}
			for text := range all.environ {
				if leaks(text, password, signed) != "" && place != "environment" && place != "licence" {
					t.Errorf("an environment: %s", text)
				}
			}
		})
	}
}

// lineWith are the lines of text that have part in them.
func lineWith(text, part string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found.WriteString(line)
		}
	}
	return found.String()
}

func writeSecret(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(text), mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// leftNothing searches every file below dir, and its name.
func leftNothing(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if form := leaks(path+"\n"+string(text), secrets...); form != "" {
			t.Errorf("%s has %q", path, form)
		}
		files++
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files were searched: %v", files, err)
	}
}

// S2.2.3: no stage may leave a core file, whatever the limit was that it began with.
func TestNoCoreFiles(t *testing.T) {
	t.Parallel()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Max == 0 {
		t.Skipf("core files are forbidden to this test: %v %v", limit, err)
	}
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"ferry-discover": {"generic"}, "ferry-select": nil, "ferry-fetch": {"--store", dir}, "ferry-pack": {dir}, "ferry-publish": {"h/p"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "/bin/bash", append([]string{"-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"`, filepath.Join(binaries, name)}, args...)...)
			cmd.Env = program(t, name).Env
			stdin, err := cmd.StdinPipe() // the document that never comes
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				stdin.Close()
			}()
			proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
			var limits string
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				argv, err := os.ReadFile(proc + "cmdline")
				if err != nil {
					t.Fatal(err)
				}
				limits = readText(t, proc+"limits")
				for line := range strings.Lines(limits) {
					f := strings.Fields(line)
					if len(f) > 5 && f[1] == "core" && f[4] == "0" && f[5] == "0" && strings.HasPrefix(string(argv), filepath.Join(binaries, name)) {
						return
					}
				}
			}
			t.Errorf("core files are allowed:\n%s", limits)
		})
	}
}
