package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/signature"
)

// keyPair writes the n-th key of the tests, in PEM, and returns the files of the
// private and the public one.
func keyPair(t testing.TB, n byte) (private, public string) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	private = write("key.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	return private, write("public.pem", "PUBLIC KEY", der, err)
}

// join writes a file with the text of several.
func join(t testing.TB, files ...string) string {
	t.Helper()
	var all []byte
	for _, file := range files {
		all = append(all, content(t, file)...)
	}
	path := filepath.Join(t.TempDir(), "joined")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func put(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// holds tells what is wrong with the signature of a file that lies beside it.
func holds(t testing.TB, file, public string) error {
	t.Helper()
	keys, err := signature.ReadPublicKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	_, err = keys.Verify(content(t, file), content(t, file+".sig"), file+".sig")
	return err
}

// ended asserts how a program ended, that it said these words, and that it gave
// no document unless it succeeded.
func ended(t *testing.T, r result, code int, words ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit status %d, want %d\n%s", r.code, code, r.stderr)
	}
	if code != 0 && r.stdout != "" {
		t.Errorf("there is a document beside exit status %d", r.code)
	}
	for _, word := range words {
		if !strings.Contains(r.stderr, word) {
			t.Errorf("stderr lacks %q:\n%s", word, r.stderr)
		}
	}
}

// The three answers about a bundle, of every form, before anything else of it is
// read: signed, and by whom; wrong, 65; missing, 77 (N22).
func TestSignedBundles(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	key, public := keyPair(t, 1)
	otherKey, otherPublic := keyPair(t, 2)
	inventory := fetched(t, src.Host, t.TempDir())
	packedAs := func(flags ...string) string {
		dir := filepath.Join(t.TempDir(), "bundle")
		run(t, inventory, "ferry-pack", append([]string{dir}, flags...)...)
		return dir
	}
	archives := packedAs("--sign-key", key)
	chunks := packedAs("--sign-key", key, "--chunk-size", "20000B")
	layouts := packedAs("--sign-key", key, "--layouts")
	foreign := packedAs("--sign-key", otherKey)
	unsigned := packedAs()
	unsignedLayouts := packedAs("--layouts")
	d8 := copyDir(t, d8Bundle)

	edited := func(from string, edit func(dir string)) string {
		dir := copyDir(t, from)
		edit(dir)
		return dir
	}
	sig := func(text func(old []byte) []byte) string {
		return edited(archives, func(dir string) {
			path := filepath.Join(dir, "bundle.json.sig")
			put(t, path, text(content(t, path)))
		})
	}
	without := func(from, name string) string {
		return edited(from, func(dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		})
	}
	cut := func(from string) string {
		return edited(from, func(dir string) {
			if err := os.Truncate(filepath.Join(dir, "platform.tar"), 512); err != nil {
				t.Fatal(err)
			}
		})
	}
	const yes, wrong, missing = 0, 65, 77
	for name, tc := range map[string]struct {
		paths []string
		keys  string
		code  int
		words []string
	}{
		"archives":                   {[]string{archives}, public, yes, []string{"bundle.json is signed by SHA256:", "line 1 of " + public}},
		"one key of several":         {[]string{archives}, join(t, otherPublic, public), yes, []string{"line 4 of "}},
		"chunks":                     {[]string{chunks}, public, yes, []string{"is signed by SHA256:"}},
		"layouts":                    {[]string{layouts}, public, yes, []string{"is signed by SHA256:"}},
		"streamed":                   {[]string{archives, "--verify", "stream"}, public, yes, []string{"is signed by SHA256:"}},
		"several directories":        {[]string{archives, foreign}, join(t, public, otherPublic), yes, []string{archives + "/bundle.json is signed", foreign + "/bundle.json is signed"}},
		"a directory and its file":   {[]string{archives, filepath.Join(archives, "platform.tar")}, public, yes, []string{"is signed by SHA256:"}},
		"another key":                {[]string{foreign}, public, wrong, []string{"which is not among the keys of " + public}},
		"an empty signature":         {[]string{sig(func([]byte) []byte { return nil })}, public, wrong, []string{"no signature of ferry"}},
		"a cut signature":            {[]string{sig(func(old []byte) []byte { return old[:len(old)/2] })}, public, wrong, []string{"no signature of ferry"}},
		"two signatures":             {[]string{sig(func(old []byte) []byte { return append(old, old...) })}, join(t, public, otherPublic), wrong, []string{"no signature of ferry"}},
		"another bundle's":           {[]string{sig(func([]byte) []byte { return content(t, filepath.Join(chunks, "bundle.json.sig")) })}, public, wrong, []string{"the document is not the one that SHA256:"}},
		"no document":                {[]string{without(archives, "bundle.json")}, public, wrong, []string{"but not the bundle.json that it signs"}},
		"one of two is wrong":        {[]string{archives, foreign}, public, wrong, []string{foreign, "not among"}},
		"layouts, another key":       {[]string{layouts}, otherPublic, wrong, []string{"not among"}},
		"damaged, and signed":        {[]string{cut(archives)}, public, wrong, []string{"is signed by SHA256:", "platform.tar"}},
		"unsigned":                   {[]string{unsigned}, public, missing, []string{"there is no bundle.json.sig", "copy it too"}},
		"lost signature":             {[]string{without(archives, "bundle.json.sig")}, public, missing, []string{"there is no bundle.json.sig"}},
		"unsigned layouts":           {[]string{unsignedLayouts}, public, missing, []string{"there is no bundle.json.sig"}},
		"unsigned modules":           {[]string{unsignedLayouts, "--modules"}, public, missing, []string{"there is no bundle.json.sig"}},
		"one of two is unsigned":     {[]string{archives, unsigned}, public, missing, []string{unsigned, "there is no bundle.json.sig"}},
		"of d8 mirror":               {[]string{d8}, public, missing, []string{"cannot be signed", "ferry-pack --sign-key"}},
		"one of two is of d8":        {[]string{archives, d8}, public, missing, []string{"cannot be signed"}},
		"layouts without a document": {[]string{without(unsignedLayouts, "bundle.json")}, public, missing, []string{"cannot be signed"}},
		"single files":               {[]string{filepath.Join(archives, "platform.tar")}, public, missing, []string{"single archives have none", "name the directory"}},
		"a file of another":          {[]string{archives, filepath.Join(chunks, "platform.tar.0000.chunk")}, public, missing, []string{"single archives have none"}},
		"unsigned, and damaged":      {[]string{cut(unsigned)}, public, missing, []string{"there is no bundle.json.sig"}},
		"no such file of keys":       {[]string{archives}, filepath.Join(t.TempDir(), "nobody"), 64, []string{"no such file of public keys"}},
		"the private key":            {[]string{archives}, key, 64, []string{"a private key in it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := try(t, "", "ferry-unpack", append(tc.paths, "--require-signature", tc.keys)...)
			ended(t, r, tc.code, tc.words...)
		})
	}
	// Nobody asked: then not even a wrong one is looked at.
	t.Run("not required", func(t *testing.T) {
		for _, dir := range []string{archives, foreign, unsigned, sig(func([]byte) []byte { return []byte("nonsense") })} {
			r := try(t, "", "ferry-unpack", dir)
			ended(t, r, 0)
			if strings.Contains(r.stderr, "sign") {
				t.Errorf("a signature is spoken of:\n%s", r.stderr)
			}
		}
	})
	// What is kept was believed before somebody asked.
	t.Run("kept", func(t *testing.T) {
		kept := filepath.Join(t.TempDir(), "inventory.json")
		run(t, "", "ferry-unpack", unsigned, "--keep", kept)
		ended(t, try(t, "", "ferry-unpack", unsigned, "--keep", kept, "--require-signature", public), missing)
		run(t, "", "ferry-unpack", archives, "--keep", kept)
		ended(t, try(t, "", "ferry-unpack", archives, "--keep", kept, "--require-signature", otherPublic), wrong)
		ended(t, try(t, "", "ferry-unpack", archives, "--keep", kept, "--require-signature", public), yes, "is signed by")
	})
	t.Run("summary", func(t *testing.T) {
		ended(t, try(t, "", "ferry-unpack", archives, "--summary", "-", "--require-signature", public), yes, "Signed by", "SHA256:")
	})
}

// leaves calls visit with every value of a document that has no parts, where it
// is, and a function that puts another in its place.
func leaves(at string, value any, set func(any), visit func(at string, value any, set func(any))) {
	switch v := value.(type) {
	case map[string]any:
		for key, part := range v {
			leaves(at+"."+key, part, func(n any) { v[key] = n }, visit)
		}
	case []any:
		for i, part := range v {
			leaves(at+"[]", part, func(n any) { v[i] = n }, visit)
		}
	default:
		visit(at, value, set)
	}
}

// Whatever of a signed document is altered, in any of its fields, or around
// them, it is wrong, and the archives are not looked at (N22).
func TestAlteredDocuments(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	key, public := keyPair(t, 1)
	dir := packed(t, src.Host, "--sign-key", key, "--gost-digest")
	path := filepath.Join(dir, "bundle.json")
	signed := content(t, path)
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("archives: %v, %v", archives, err)
	}

	altered := map[string][]byte{
		"a blank more":         append(bytes.Clone(signed), ' '),
		"an end of line less":  bytes.TrimSuffix(signed, []byte("\n")),
		"other ends of lines":  bytes.ReplaceAll(signed, []byte("\n"), []byte("\r\n")),
		"other form":           compact(t, signed),
		"a mark of byte order": append([]byte("\xef\xbb\xbf"), signed...),
		"no document":          []byte("{"),
		"nothing":              nil,
	}
	var doc any
	decode := json.NewDecoder(bytes.NewReader(signed))
	decode.UseNumber()
	if err := decode.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	leaves("", doc, nil, func(at string, value any, set func(any)) {
		name := "field " + strings.TrimPrefix(at, ".")
		if altered[name] != nil {
			return
		}
		switch v := value.(type) {
		case string:
			set(v + "x")
		case json.Number:
			set(json.Number(v.String() + "1"))
		case bool:
			set(!v)
		default:
			t.Fatalf("%s is %v", at, value)
		}
		text, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		altered[name] = text
		set(value)
	})
	if len(altered) < 30 {
		t.Fatalf("only %d alterations: nothing is shown", len(altered))
	}
	for _, archive := range archives { // which must not be looked at
		if err := os.Remove(archive); err != nil {
			t.Fatal(err)
		}
		put(t, archive, nil)
	}
	for name, text := range altered {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := copyDir(t, dir)
			put(t, filepath.Join(other, "bundle.json"), text)
			r := try(t, "", "ferry-unpack", other, "--require-signature", public)
			ended(t, r, 65, "the document is not the one that SHA256:")
		})
	}
}

func compact(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A directory is signed when it is made, or later by the same command, and never
// has a signature that is of another document.
func TestSigning(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	key, public := keyPair(t, 1)
	otherKey, otherPublic := keyPair(t, 2)
	inventory := fetched(t, src.Host, t.TempDir())
	fewer := fetched(t, src.Host, t.TempDir(), "--no-modules")
	for _, form := range [][]string{nil, {"--layouts"}} {
		t.Run(fmt.Sprintf("pack %v", form), func(t *testing.T) {
			t.Parallel()
			dir, kept := filepath.Join(t.TempDir(), "bundle"), filepath.Join(t.TempDir(), "kept.json")
			document := filepath.Join(dir, "bundle.json")
			pack := func(what string, flags ...string) {
				t.Helper()
				run(t, what, "ferry-pack", append(append([]string{dir}, form...), flags...)...)
			}
			is := func(when, by string) {
				t.Helper()
				_, err := os.Lstat(document + ".sig")
				if there := err == nil; there != (by != "") {
					t.Fatalf("%s: is it signed? %v", when, there)
				}
				if by == "" {
					return
				}
				if err := holds(t, document, by); err != nil {
					t.Errorf("%s: %v", when, err)
				}
			}
			pack(inventory, "--sign-key", key)
			is("made and signed", public)
			first := content(t, document+".sig")
			pack(inventory)
			is("made again without a key", "")
			pack(inventory, "--sign-key", key)
			is("signed when it was finished", public)
			if diff := cmp.Diff(string(first), string(content(t, document+".sig"))); diff != "" {
				t.Errorf("the same document has another signature (-first +now):\n%s", diff)
			}
			pack(inventory, "--sign-key", otherKey)
			is("signed by another", otherPublic)
			pack(fewer, "--force")
			is("of other images", "")
			pack(inventory, "--force", "--keep", kept)
			is("kept", "")
			pack(inventory, "--keep", kept, "--sign-key", key)
			is("kept and signed", public)
			pack(inventory, "--keep", kept)
			is("kept as it is", public)
			pack(fewer, "--force", "--keep", kept, "--sign-key", otherKey)
			is("of other images, signed by another", otherPublic)
			run(t, "", "ferry-unpack", dir, "--require-signature", otherPublic)
		})
	}
	// A key that cannot be used is found before any work is done, even before
	// anything is read.
	open := join(t, key)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ key, want string }{
		"not there":      {filepath.Join(t.TempDir(), "none"), "no such private key"},
		"open to others": {open, "chmod 600 " + open},
		"a public key":   {public, `"PUBLIC KEY"`},
	} {
		t.Run("a key that is "+name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "bundle")
			ended(t, try(t, "no Inventory", "ferry-pack", dir, "--sign-key", tc.key), 64, tc.want)
			ended(t, try(t, "no Inventory", "ferry-publish", "r.example/mirror", "-o", dir, "--sign-key", tc.key), 64, tc.want)
			src := registrytest.Start(t, registrytest.New())
			ended(t, try(t, "", "ferry-pull", dir, "--source", src.Host+"/deckhouse/ee", "--insecure", "--sign-key", tc.key), 64, tc.want)
			if n := len(src.Requests()); n > 0 {
				t.Errorf("%d requests were made for nothing", n)
			}
			if _, err := os.Lstat(dir); err == nil {
				t.Error("work was begun")
			}
		})
	}
}

// The scripts carry a signature from one side to the other, and the one of the
// Receipt back.
func TestSignaturesTravel(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	key, public := keyPair(t, 1)
	back, backPublic := keyPair(t, 2)
	work := t.TempDir()
	disk, receipt := filepath.Join(work, "disk"), filepath.Join(work, "receipt.json")
	run(t, "", "ferry-pull", disk, "--source", src.Host+"/deckhouse/ee", "--insecure", "--sign-key", key)
	target := registrytest.Start(t, registrytest.New())

	for name, tc := range map[string]struct {
		code  int
		args  []string
		words []string
	}{
		"not by our key":        {65, []string{"--require-signature", backPublic}, []string{"not among"}},
		"a Receipt on stdout":   {64, []string{"--sign-key", back}, []string{"--receipt FILE"}},
		"a Receipt on stdout -": {64, []string{"--sign-key", back, "--receipt", "-"}, []string{"--receipt FILE"}},
		"no key":                {64, []string{"--sign-key", receipt, "--receipt", receipt}, []string{"no such private key"}},
	} {
		t.Run(name, func(t *testing.T) {
			ended(t, try(t, "", "ferry-push", append(tc.args, disk, target.Host+"/mirror", "--insecure")...), tc.code, tc.words...)
		})
	}
	t.Run("no signature", func(t *testing.T) {
		other := copyDir(t, disk)
		if err := os.Remove(filepath.Join(other, "bundle.json.sig")); err != nil {
			t.Fatal(err)
		}
		ended(t, try(t, "", "ferry-push", "--require-signature", public, other, target.Host+"/mirror", "--insecure"), 77, "bundle.json.sig")
	})
	if requests := target.Requests(); len(requests) > 0 {
		t.Fatalf("the target was asked before all was known: %v", requests)
	}
	r := try(t, "", "ferry-push", "--require-signature", public, "--verify", "stream", "--sign-key", back, "--receipt", receipt,
		disk, target.Host+"/mirror", "--insecure")
	ended(t, r, 0, "is signed by SHA256:")
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
	if err := holds(t, receipt, backPublic); err != nil {
		t.Error(err)
	}
}

// A Receipt's signature is over the bytes of its file, kept or made, and does not
// stay beside another.
func TestSignedReceipts(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	key, public := keyPair(t, 1)
	inventory := fetched(t, src.Host, t.TempDir())
	target := registrytest.Start(t, registrytest.New())
	work := t.TempDir()
	receipt, kept := filepath.Join(work, "receipt.json"), filepath.Join(work, "kept.json")
	publish := func(flags ...string) result {
		t.Helper()
		return try(t, inventory, "ferry-publish", append([]string{target.Host + "/mirror", "--insecure"}, flags...)...)
	}
	for _, flags := range [][]string{nil, {"-o", "-"}, {"--keep", kept}} {
		ended(t, publish(append(flags, "--sign-key", key)...), 64, "-o FILE")
	}
	if requests := target.Requests(); len(requests) > 0 {
		t.Fatalf("%d requests before a mistake of the command line was found", len(requests))
	}
	for _, flags := range [][]string{{"--keep", kept}, {"--keep", kept}, nil} {
		ended(t, publish(append(flags, "-o", receipt, "--sign-key", key)...), 0)
		if err := holds(t, receipt, public); err != nil {
			t.Errorf("%q: %v", flags, err)
		}
	}
	ended(t, publish("-o", receipt), 0)
	if _, err := os.Lstat(receipt + ".sig"); err == nil {
		t.Error("an old signature stands beside a new Receipt")
	}
}

// Killed at any step, over an older bundle or Receipt that is signed, a stage
// never leaves a document beside a signature that is not its own (N22); the same
// command ends with both.
func TestSigningKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	if out, err := exec.CommandContext(t.Context(), "strace", "-f", "-e", "trace=none", "true").CombinedOutput(); err != nil {
		t.Skipf("strace is missing or may not trace: %v: %s", err, out)
	}
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	key, public := keyPair(t, 1)
	// Small, for each step is one run.
	old := fetched(t, src.Host, t.TempDir(), "--no-modules", "--no-platform", "--no-installer")
	now := fetched(t, src.Host, t.TempDir(), "--no-modules", "--no-platform", "--no-security-db")
	target := registrytest.Start(t, registrytest.New())

	type stage struct {
		stride   int
		document string // below the directory
		args     func(dir string) (program string, args []string)
	}
	pack := func(stride int, flags ...string) stage {
		return stage{stride, "bundle.json", func(dir string) (string, []string) {
			return "ferry-pack", append([]string{dir, "--force", "--sign-key", key}, flags...)
		}}
	}
	for name, s := range map[string]stage{
		"pack": pack(1), "pack --layouts": pack(4, "--layouts"),
		"publish": {1, "receipt.json", func(dir string) (string, []string) {
			return "ferry-publish", []string{target.Host + "/mirror", "--insecure", "-o", filepath.Join(dir, "receipt.json"), "--sign-key", key}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			do := func(dir, inventory string) {
				t.Helper()
				program, args := s.args(dir)
				run(t, inventory, program, args...)
			}
			before, want := t.TempDir(), t.TempDir()
			do(before, old)
			do(want, now)
			kills, bare := 0, 0
			for _, call := range []string{"fsync", "renameat", "unlinkat"} {
				for n := 1; ; n += s.stride {
					dir := copyDir(t, before)
					stage, args := s.args(dir)
					cmd := program(t, stage, args...)
					cmd.Path, cmd.Args = straced(t, cmd, call, n)
					cmd.Stdin = strings.NewReader(now)
					killed := finish(t, cmd).code != 0
					document := filepath.Join(dir, s.document)
					_, noDocument := os.Lstat(document)
					_, noSignature := os.Lstat(document + ".sig")
					switch {
					case noDocument == nil && noSignature == nil:
						if err := holds(t, document, public); err != nil {
							t.Errorf("killed at %s %d: %v", call, n, err)
						}
					case noDocument == nil:
						bare++
					}
					if !killed {
						break
					}
					kills++
					do(dir, now)
					assertSameFiles(t, want, dir)
					if n > 200 {
						t.Fatalf("it still dies at %s %d", call, n)
					}
				}
			}
			// strace counts by thread, so only what is a run's one call is always met:
			// publish removes the old signature and nothing else.
			if kills < 3 || bare == 0 && name == "publish" {
				t.Errorf("killed %d times, %d of them between document and signature: nothing is shown", kills, bare)
			}
			t.Attr("cases", strconv.Itoa(kills))
		})
	}
}

// straced is the command line that kills cmd at its n-th call.
func straced(t testing.TB, cmd *exec.Cmd, call string, n int) (path string, args []string) {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	return path, append([]string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=" + call,
		"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), cmd.Path}, cmd.Args[1:]...)
}

// ssh-keygen checks what ferry signs, and ferry what ssh-keygen signs, with keys
// of ssh-keygen's; a passphrase comes from the environment, and is told nowhere.
func TestSignaturesOfOpenSSH(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("ssh-keygen is not installed (apt-get install openssh-client)")
	}
	src, _ := source(t, edition.Tiny())
	target := registrytest.Start(t, registrytest.New())
	work := t.TempDir()
	put(t, filepath.Join(work, "inventory.json"), []byte(fetched(t, src.Host, t.TempDir())))
	const passphrase = "nobody tells this"
	r := shell(t, work, `
		ssh-keygen -q -t ed25519 -N "" -C release -f plain
		ssh-keygen -q -t ed25519 -N "$SECRET" -C release -f locked
		for key in plain locked; do
			echo "release $(<$key.pub)" > signers.$key
			FERRY_SIGN_KEY_PASSPHRASE=$SECRET ferry-pack -i inventory.json $key.bundle --sign-key $key -o $key.json
			ssh-keygen -Y verify -f signers.$key -I release -n ferry -s $key.bundle/bundle.json.sig < $key.bundle/bundle.json
			! ssh-keygen -Y verify -f signers.$key -I release -n ferry -s $key.bundle/bundle.json.sig < inventory.json
			for keys in $key.pub signers.$key; do
				ferry-unpack $key.bundle --require-signature $keys -o unpacked.json
			done
		done
		FERRY_SIGN_KEY_PASSPHRASE=$SECRET ferry-publish -i unpacked.json "$TARGET/mirror" --insecure --sign-key locked -o receipt.json
		ssh-keygen -Y verify -f signers.locked -I release -n ferry -s receipt.json.sig < receipt.json

		# The other way round: what ssh-keygen signed.
		ferry-pack -i inventory.json theirs -o theirs.json
		ssh-keygen -q -Y sign -n ferry -f plain theirs/bundle.json
		ferry-unpack theirs --require-signature plain.pub -o unpacked.json
		cmp theirs/bundle.json.sig plain.bundle/bundle.json.sig
		rm theirs/bundle.json.sig
		ssh-keygen -q -Y sign -n file -f plain theirs/bundle.json
		code=0
		ferry-unpack theirs --require-signature plain.pub -o none.json || code=$?
		echo "another namespace: $code"
		code=0
		FERRY_SIGN_KEY_PASSPHRASE=wrong ferry-pack -i inventory.json none --sign-key locked -o none.json || code=$?
		echo "another passphrase: $code"
		code=0
		ferry-pack -i inventory.json none --sign-key locked -o none.json || code=$?
		echo "no passphrase: $code"
	`, "TARGET="+target.Host, "SECRET="+passphrase)
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
	for _, want := range []string{"another namespace: 65", "another passphrase: 64", "no passphrase: 64"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("want %q in\n%s\n%s", want, r.stdout, r.stderr)
		}
	}
	if n := strings.Count(r.stdout, `Good "ferry" signature for release`); n != 3 {
		t.Errorf("ssh-keygen found %d good signatures, want 3:\n%s", n, r.stdout)
	}
	if strings.Contains(r.stdout+r.stderr, passphrase) || !strings.Contains(r.stderr, "FERRY_SIGN_KEY_PASSPHRASE") {
		t.Errorf("the passphrase is told, or not asked for:\n%s\n%s", r.stdout, r.stderr)
	}
}
