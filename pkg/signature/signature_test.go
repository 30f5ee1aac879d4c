package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"ferry/pkg/fault"
)

var document = []byte("{\"kind\": \"Bundle\"}\n")

// testKey is the n-th key of the tests, always the same.
func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// keyLine is the public key of testKey(n) as id_ed25519.pub has it, without a
// comment.
func keyLine(t testing.TB, n byte) string {
	t.Helper()
	return wireLine(t, testKey(n).Public())
}

func wireLine(t testing.TB, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func encode(t testing.TB, block *pem.Block, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

// openSSH is a private key as ssh-keygen writes it.
func openSSH(t testing.TB, key any, passphrase string) string {
	t.Helper()
	if passphrase != "" {
		block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "a comment", []byte(passphrase))
		return encode(t, block, err)
	}
	block, err := ssh.MarshalPrivateKey(key, "a comment")
	return encode(t, block, err)
}

func pkcs8(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encode(t, &pem.Block{Type: "PRIVATE KEY", Bytes: der}, err)
}

func publicPEM(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	return encode(t, &pem.Block{Type: "PUBLIC KEY", Bytes: der}, err)
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecdsaKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// file writes text to a file that only its owner may read.
func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func private(t testing.TB, text, passphrase string) *PrivateKey {
	t.Helper()
	key, err := ReadPrivateKey(file(t, text), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(t testing.TB, text string) *PublicKeys {
	t.Helper()
	keys, err := ReadPublicKeys(file(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// signed is the signature of document by testKey(n).
func signed(t testing.TB, n byte) []byte {
	t.Helper()
	text, err := private(t, openSSH(t, testKey(n), ""), "").Sign(document)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// refused asserts the kind of an error, and words of it and its hint.
func refused(t *testing.T, err error, kind *fault.Kind, words ...string) {
	t.Helper()
	if fault.KindOf(err) != kind {
		t.Fatalf("the error is %v: %v; want %v", fault.KindOf(err), err, kind)
	}
	said := err.Error() + "\n" + fault.HintOf(err)
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("the error lacks %q:\n%s", word, said)
		}
	}
}

// Whatever form a private key has, its signature is the same; whatever form the
// public key has, that signature is believed, and the key named.
func TestSignAndVerify(t *testing.T) {
	line, other := keyLine(t, 1), keyLine(t, 2)
	privates := map[string]*PrivateKey{
		"of OpenSSH":            private(t, openSSH(t, testKey(1), ""), ""),
		"of OpenSSH, encrypted": private(t, openSSH(t, testKey(1), "secret"), "secret"),
		"in PEM":                private(t, pkcs8(t, testKey(1)), ""),
		"not encrypted, with a passphrase in the environment": private(t, pkcs8(t, testKey(1)), "secret"),
	}
	publics := map[string]struct {
		text string
		line int
	}{
		"id.pub":              {line + "\n", 1},
		"no end of line":      {line + " me@example", 1},
		"several":             {"# those who sign\n\n" + other + "\r\n" + line + " me\r\n", 4},
		"beside others":       {wireLine(t, &rsaKey(t).PublicKey) + "\n" + wireLine(t, &ecdsaKey(t).PublicKey) + "\n" + line + "\n", 3},
		"authorized_keys":     {`restrict,command="echo \"ssh-ed25519, or not\"" ` + line + " me\n", 1},
		"allowed_signers":     {"me@example,you@example " + line + "\n", 1},
		"quoted principals":   {`"me, you" ` + line + "\n", 1},
		"with namespaces":     {`me@example namespaces="git,ferry" ` + line + "\n", 1},
		"for everything":      {`me@example namespaces="*" ` + line + "\n", 1},
		"twice, once counted": {`me@example namespaces="git" ` + line + "\nme@example " + line + "\n", 2},
		"in PEM":              {publicPEM(t, testKey(1).Public()), 1},
		"several in PEM":      {"\n" + publicPEM(t, testKey(2).Public()) + "\n" + publicPEM(t, testKey(1).Public()), 6},
	}
	want := signed(t, 1)
	for how, key := range privates {
		t.Run("private key "+how, func(t *testing.T) {
			got, err := key.Sign(document)
			if diff := cmp.Diff(string(want), string(got)); err != nil || diff != "" {
				t.Errorf("%v, signature (-want +got):\n%s", err, diff)
			}
		})
	}
	fingerprint := privates["in PEM"].Fingerprint()
	for how, tc := range publics {
		t.Run("public key "+how, func(t *testing.T) {
			keys := public(t, tc.text)
			got, err := keys.Verify(document, want, "bundle.json.sig")
			if diff := cmp.Diff(Signer{fingerprint, keys.path, tc.line}, got); err != nil || diff != "" {
				t.Errorf("%v, signer (-want +got):\n%s", err, diff)
			}
		})
	}
}

// envelopeOf is the good signature of testKey(1), to be changed.
func envelopeOf(t testing.TB) envelope {
	t.Helper()
	raw, err := dearmor(signed(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	var e envelope
	if err := ssh.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// resigned is an envelope with a signature that is right for what it says.
func resigned(e envelope, digest []byte) []byte {
	s := ssh.Marshal(statement{e.Magic, e.Namespace, e.Reserved, e.Hash, digest})
	e.Signature = ssh.Marshal(signatureBlob{ssh.KeyAlgoED25519, ed25519.Sign(testKey(1), s)})
	return ssh.Marshal(e)
}

// Everything but one signature of ours, over this document, by one of these keys
// is wrong: fault.Damaged, and never taken for one that is missing (N22).
func TestWrongSignatures(t *testing.T) {
	good := string(signed(t, 1))
	changed := func(change func(*envelope)) string {
		e := envelopeOf(t)
		change(&e)
		return string(armor(ssh.Marshal(e)))
	}
	body := strings.TrimSuffix(strings.TrimPrefix(good, armorBegin+"\n"), armorEnd+"\n")
	sum256 := sha256.Sum256(document)
	rsaBlob := func() []byte {
		key, err := ssh.NewPublicKey(&rsaKey(t).PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return key.Marshal()
	}()
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":                     {"", "not one block"},
		"a document":                  {string(document), "not one block"},
		"raw":                         {string(ssh.Marshal(envelopeOf(t))), "not one block"},
		"armor alone":                 {armorBegin + "\n" + armorEnd + "\n", "not one block"},
		"armor around nothing":        {armorBegin + "\n\n" + armorEnd + "\n", "cut"},
		"no end":                      {strings.TrimSuffix(good, armorEnd+"\n"), "not one block"},
		"cut in the middle":           {good[:len(good)/2], "not one block"},
		"text before":                 {"a\n" + good, "not one block"},
		"an empty line before":        {"\n" + good, "not one block"},
		"text behind":                 {good + "a\n", "not one block"},
		"a blank behind":              {good + " ", "not one block"},
		"two blocks":                  {good + good, "more than one block"},
		"another's block behind":      {good + string(signed(t, 2)), "more than one block"},
		"of PGP":                      {strings.ReplaceAll(good, "SSH", "PGP"), "not one block"},
		"blanks in it":                {armorBegin + "\n " + body + armorEnd + "\n", "not base64"},
		"bits behind the last":        {strings.Replace(good, "=\n", "=A\n", 1), "not base64"},
		"too large":                   {armorBegin + "\n" + strings.Repeat("\n", armorLimit) + body + armorEnd + "\n", "more than the"},
		"another magic":               {changed(func(e *envelope) { e.Magic[0] = 'X' }), "no signature of a file"},
		"version 0":                   {changed(func(e *envelope) { e.Version = 0 }), "version 0"},
		"version 2":                   {changed(func(e *envelope) { e.Version = 2 }), "version 2"},
		"no namespace":                {changed(func(e *envelope) { e.Namespace = "" }), `for ""`},
		"another namespace":           {string(armor(resigned(envelope{Magic: magic, Version: version, Key: envelopeOf(t).Key, Namespace: "git", Hash: hashName}, nil))), `for "git"`},
		"namespace with a nul":        {changed(func(e *envelope) { e.Namespace = "ferry\x00" }), "was made for"},
		"hash sha256, well signed":    {string(armor(resigned(envelope{Magic: magic, Version: version, Key: envelopeOf(t).Key, Namespace: Namespace, Hash: "sha256"}, sum256[:]))), `hash "sha256"`},
		"hash unknown":                {changed(func(e *envelope) { e.Hash = "md5" }), `hash "md5"`},
		"bytes behind":                {string(armor(append(ssh.Marshal(envelopeOf(t)), 0))), "more in it"},
		"bytes missing":               {string(armor(ssh.Marshal(envelopeOf(t))[:100])), "cut"},
		"key of RSA":                  {changed(func(e *envelope) { e.Key = rsaBlob }), `"ssh-rsa"`},
		"key with bytes behind":       {changed(func(e *envelope) { e.Key = append(e.Key, 0) }), "more in it than a key"},
		"key too short":               {changed(func(e *envelope) { e.Key = ssh.Marshal(keyBlob{ssh.KeyAlgoED25519, []byte("short")}) }), "size"},
		"no key":                      {changed(func(e *envelope) { e.Key = nil }), `algorithm ""`},
		"signature with bytes behind": {changed(func(e *envelope) { e.Signature = append(e.Signature, 0) }), "more in it than a signature"},
		"signature of RSA": {changed(func(e *envelope) {
			e.Signature = ssh.Marshal(signatureBlob{"rsa-sha2-512", make([]byte, 256)})
		}), `"rsa-sha2-512"`},
		"no signature":       {changed(func(e *envelope) { e.Signature = nil }), "cut"},
		"empty signature":    {changed(func(e *envelope) { e.Signature = ssh.Marshal(signatureBlob{ssh.KeyAlgoED25519, nil}) }), "not the one"},
		"signature of zeros": {changed(func(e *envelope) { e.Signature = ssh.Marshal(signatureBlob{ssh.KeyAlgoED25519, make([]byte, 64)}) }), "not the one"},
		"another's signature": {changed(func(e *envelope) {
			e.Key = ssh.Marshal(keyBlob{ssh.KeyAlgoED25519, testKey(3).Public().(ed25519.PublicKey)})
		}), "not among"},
		"the other's key on it": {changed(func(e *envelope) {
			e.Key = ssh.Marshal(keyBlob{ssh.KeyAlgoED25519, testKey(2).Public().(ed25519.PublicKey)})
		}), "not the one"},
		"reserved not signed":    {changed(func(e *envelope) { e.Reserved = []byte("x") }), "not the one"},
		"by a key not among":     {string(signed(t, 3)), "not among the keys of"},
		"by a key for git alone": {string(signed(t, 4)), "does not count: the key is not for signatures of ferry"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := public(t, keyLine(t, 1)+"\n"+keyLine(t, 2)+"\n"+`me namespaces="git" `+keyLine(t, 4)+"\n")
			if _, err := keys.Verify(document, []byte(tc.text), "bundle.json.sig"); err == nil {
				t.Fatal("it is believed")
			} else {
				refused(t, err, fault.Damaged, "bundle.json.sig", tc.want)
			}
		})
	}
	keys := public(t, keyLine(t, 1)+"\n")
	for name, altered := range map[string][]byte{
		"cut": document[:len(document)-1], "longer": append(bytes.Clone(document), '\n'), "empty": nil,
		"other ends of lines": bytes.ReplaceAll(document, []byte("\n"), []byte("\r\n")),
	} {
		t.Run("the document is "+name, func(t *testing.T) {
			_, err := keys.Verify(altered, []byte(good), "bundle.json.sig")
			refused(t, err, fault.Damaged, "not the one that SHA256:", "copy the document")
		})
	}
	t.Run("other ends of lines around the signature are none of its business", func(t *testing.T) {
		for _, text := range []string{strings.ReplaceAll(good, "\n", "\r\n"), strings.TrimSuffix(good, "\n"), good + "\n"} {
			if _, err := keys.Verify(document, []byte(text), ""); err != nil {
				t.Error(err)
			}
		}
	})
}

// No flipped bit passes, of the document or of its signature (N22).
func TestEveryFlippedBitIsWrong(t *testing.T) {
	keys, good := public(t, keyLine(t, 1)), signed(t, 1)
	tried := 0
	flip := func(what string, data []byte, verify func() error) {
		for i := range len(data) * 8 {
			data[i/8] ^= 1 << (i % 8)
			if err := verify(); fault.KindOf(err) != fault.Damaged {
				t.Errorf("bit %d of the %s: %v", i, what, err)
			}
			data[i/8] ^= 1 << (i % 8)
			tried++
		}
	}
	verify := func() error { _, err := keys.Verify(document, good, "sig"); return err }
	flip("document", document, verify)
	flip("signature", good, verify)
	if err := verify(); err != nil || tried < 2500 {
		t.Errorf("%v after %d bits: nothing is shown", err, tried)
	}
	t.Attr("cases", strconv.Itoa(tried))
}

// A private key that cannot be used is an error of the command line that says
// what to do, and tells nothing of the key or of its passphrase.
func TestReadPrivateKeyRefuses(t *testing.T) {
	good := openSSH(t, testKey(1), "")
	const passphrase = "a very secret passphrase"
	for name, tc := range map[string]struct {
		text, passphrase, want string
	}{
		"nothing":                       {"", "", "no private key"},
		"a public key":                  {keyLine(t, 1), "", "no private key"},
		"a public key in PEM":           {publicPEM(t, testKey(1).Public()), "", `"PUBLIC KEY"`},
		"RSA":                           {openSSH(t, rsaKey(t), ""), "", "Ed25519"},
		"RSA in PEM":                    {pkcs8(t, rsaKey(t)), "", "Ed25519"},
		"ECDSA":                         {openSSH(t, ecdsaKey(t), ""), "", "Ed25519"},
		"RSA, old form":                 {encode(t, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey(t))}, nil), "", `"RSA PRIVATE KEY"`},
		"cut":                           {good[:len(good)/2], "", "no private key"},
		"damaged":                       {encode(t, &pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("openssh-key-v1\x00 and no more")}, nil), "", "cannot be read"},
		"damaged PEM":                   {encode(t, &pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}, nil), "", "cannot be read"},
		"two keys":                      {good + openSSH(t, testKey(2), ""), "", "more in the file"},
		"encrypted":                     {openSSH(t, testKey(1), passphrase), "", "the private key is encrypted"},
		"encrypted, another passphrase": {openSSH(t, testKey(1), passphrase), passphrase + "!", "does not open"},
		"encrypted in PEM":              {encode(t, &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}, nil), passphrase, "only OpenSSH's encryption"},
		"huge":                          {good + strings.Repeat("\n", keyLimit), "", "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, tc.text)
			_, err := ReadPrivateKey(path, tc.passphrase)
			refused(t, err, fault.Usage, path, tc.want)
			if said := err.Error() + fault.HintOf(err); strings.Contains(said, passphrase) {
				t.Errorf("the error tells the passphrase: %s", said)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		_, err := ReadPrivateKey(filepath.Join(t.TempDir(), "key"), "")
		refused(t, err, fault.Usage, "no such private key")
	})
	t.Run("a directory", func(t *testing.T) {
		_, err := ReadPrivateKey(t.TempDir(), "")
		refused(t, err, fault.Usage, "this is a directory")
	})
	for _, mode := range []os.FileMode{0o604, 0o640, 0o644, 0o602, 0o620, 0o610, 0o601} {
		t.Run("others may use it, "+strconv.FormatUint(uint64(mode), 8), func(t *testing.T) {
			path := file(t, good)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := ReadPrivateKey(path, "")
			refused(t, err, fault.Usage, "chmod 600 "+path)
		})
	}
	for _, mode := range []os.FileMode{0o400, 0o600, 0o700} {
		t.Run("nobody else may use it, "+strconv.FormatUint(uint64(mode), 8), func(t *testing.T) {
			path := file(t, good)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadPrivateKey(path, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// A file that has no key for us, or something that nobody understands, is an
// error of the command line, and never a file with fewer keys.
func TestReadPublicKeysRefuses(t *testing.T) {
	line := keyLine(t, 1)
	sk := ssh.Marshal(struct {
		Algorithm   string
		Key         []byte
		Application string
	}{"sk-ssh-ed25519@openssh.com", make([]byte, 32), "ssh:"})
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":               {"", "no key that counts"},
		"comments":              {"# nobody\n", "no key that counts"},
		"a private key":         {openSSH(t, testKey(1), ""), "private key in it"},
		"a private key in PEM":  {pkcs8(t, testKey(1)), "private key in it"},
		"a private one behind":  {line + "\n" + pkcs8(t, testKey(2)), "private key in it"},
		"RSA alone":             {wireLine(t, &rsaKey(t).PublicKey), "ssh-rsa"},
		"RSA in PEM":            {publicPEM(t, &rsaKey(t).PublicKey), "ssh-rsa"},
		"of a hardware token":   {"sk-ssh-ed25519@openssh.com " + base64.StdEncoding.EncodeToString(sk), "sk-ssh-ed25519"},
		"for git alone":         {`me namespaces="git" ` + line, "not for signatures of ferry"},
		"for git, other case":   {`me NAMESPACES="git" ` + line, "not for signatures of ferry"},
		"for all but ferry":     {`me namespaces="*,!ferry" ` + line, "not for signatures of ferry"},
		"a pattern":             {`me namespaces="fer*" ` + line, "name it there in full"},
		"an authority":          {"me cert-authority " + line, "cert-authority"},
		"a known host's":        {"@cert-authority me " + line, "cert-authority"},
		"revoked":               {"@revoked me " + line, "@revoked"},
		"for some time":         {`me valid-before="20300101",namespaces="ferry" ` + line, "clock"},
		"from some time":        {`me valid-after="20200101" ` + line, "clock"},
		"for a login in time":   {`expiry-time="20300101" ` + line, "clock"},
		"a good one, and words": {line + "\nwords\n", "line 2"},
		"cut":                   {line[:len(line)-8], "the key is cut"},
		"cut at four letters":   {line[:len(line)-4], "the key is cut"},
		"longer":                {line + "AAAA", "the key is cut"},
		"one word":              {strings.Fields(line)[1], "no public key"},
		"another name before":   {"ssh-rsa " + strings.Fields(line)[1], "no public key"},
		"a quote left open":     {`me namespaces="ferry ` + line, "double quote"},
		"four words before":     {"a b c d " + line, "no public key"},
		"PEM, and text":         {publicPEM(t, testKey(1).Public()) + "text", "no public key in PEM"},
		"PEM, text, PEM":        {publicPEM(t, testKey(1).Public()) + "text\n" + publicPEM(t, testKey(2).Public()), "line 4: this is no public key in PEM"},
		"PEM, and a line":       {publicPEM(t, testKey(1).Public()) + line, "no public key in PEM"},
		"PEM of a certificate":  {encode(t, &pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}, nil), "no public key in PEM"},
		"PEM of nothing":        {encode(t, &pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}, nil), "cannot be read"},
		"huge":                  {strings.Repeat("#\n", publicLimit), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, tc.text)
			_, err := ReadPublicKeys(path)
			refused(t, err, fault.Usage, path, tc.want)
		})
	}
	t.Run("not there", func(t *testing.T) {
		_, err := ReadPublicKeys(filepath.Join(t.TempDir(), "key"))
		refused(t, err, fault.Usage, "no such file of public keys")
	})
}

// sshKeygen runs the program of OpenSSH, which CI has.
func sshKeygen(t testing.TB, stdin []byte, args ...string) ([]byte, error) {
	t.Helper()
	path, err := exec.LookPath("ssh-keygen")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("ssh-keygen is not installed (apt-get install openssh-client)")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	return cmd.CombinedOutput()
}

// OpenSSH agrees, both ways and to the byte: with keys that it makes, encrypted
// ones too, and in all its forms of public keys.
func TestOpenSSHAgrees(t *testing.T) {
	must := func(out []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
		return string(out)
	}
	for _, passphrase := range []string{"", "open it"} {
		t.Run("passphrase "+strconv.Quote(passphrase), func(t *testing.T) {
			dir := t.TempDir()
			id, doc := filepath.Join(dir, "id"), filepath.Join(dir, "bundle.json")
			must(sshKeygen(t, nil, "-q", "-t", "ed25519", "-N", passphrase, "-C", "me", "-f", id))
			if err := os.WriteFile(doc, document, 0o644); err != nil {
				t.Fatal(err)
			}
			key, err := ReadPrivateKey(id, passphrase)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := key.Sign(document)
			if err != nil {
				t.Fatal(err)
			}
			if listed := must(sshKeygen(t, nil, "-l", "-f", id+".pub")); !strings.Contains(listed, key.Fingerprint()) {
				t.Errorf("the fingerprint is %s, ssh-keygen says %s", key.Fingerprint(), listed)
			}
			if passphrase == "" { // which ssh-keygen would ask a terminal for
				must(sshKeygen(t, nil, "-Y", "sign", "-n", Namespace, "-f", id, doc))
				theirs, err := os.ReadFile(doc + ".sig")
				if diff := cmp.Diff(string(theirs), string(ours)); err != nil || diff != "" {
					t.Errorf("%v, signatures (-theirs +ours):\n%s", err, diff)
				}
			}
			pub, err := os.ReadFile(id + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			signers := filepath.Join(dir, "allowed_signers")
			if err := os.WriteFile(signers, []byte(`me@example namespaces="ferry" `+string(pub)), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(doc+".sig", ours, 0o644); err != nil {
				t.Fatal(err)
			}
			check := []string{"-Y", "verify", "-n", Namespace, "-f", signers, "-I", "me@example", "-s", doc + ".sig"}
			must(sshKeygen(t, document, check...))
			if out, err := sshKeygen(t, append(document[:len(document):len(document)], '\n'), check...); err == nil {
				t.Errorf("ssh-keygen believes an altered document:\n%s", out)
			}
			for _, file := range []string{id + ".pub", signers} {
				keys, err := ReadPublicKeys(file)
				if err != nil {
					t.Fatal(err)
				}
				if signer, err := keys.Verify(document, ours, "sig"); err != nil || signer.Fingerprint != key.Fingerprint() {
					t.Errorf("%v by %v", err, signer)
				}
			}
		})
	}
	// What ssh-keygen signs otherwise is refused.
	for name, args := range map[string][]string{
		"another namespace": {"-n", "git"}, "another hash": {"-n", Namespace, "-O", "hashalg=sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			id := filepath.Join(t.TempDir(), "id")
			must(sshKeygen(t, nil, "-q", "-t", "ed25519", "-N", "", "-f", id))
			text := []byte(must(sshKeygen(t, document, append([]string{"-q", "-Y", "sign", "-f", id}, args...)...)))
			if begin := bytes.Index(text, []byte(armorBegin)); begin > 0 { // behind what it tells
				text = text[begin:]
			}
			keys, err := ReadPublicKeys(id + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			_, err = keys.Verify(document, text, "sig")
			refused(t, err, fault.Damaged, args[len(args)-1][max(0, strings.Index(args[len(args)-1], "=")+1):])
		})
	}
}

// What is believed is the signature of ours to the byte, but for ends of lines.
func FuzzVerify(f *testing.F) {
	good := signed(f, 1)
	keys := public(f, keyLine(f, 1))
	f.Add(good)
	f.Add(signed(f, 2))
	f.Add([]byte(armorBegin + "\n" + armorEnd))
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	f.Add(append(bytes.Clone(good), good...))
	bare := func(text []byte) string { return strings.NewReplacer("\r", "", "\n", "").Replace(string(text)) }
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := keys.Verify(document, text, "sig")
		if err == nil && bare(text) != bare(good) {
			t.Errorf("this is believed too: %q", text)
		}
		if err != nil && fault.KindOf(err) != fault.Damaged {
			t.Errorf("the error is %v", err)
		}
	})
}

// Every line of a file of keys is a key, a comment, or an error.
func FuzzPublicKeys(f *testing.F) {
	line := keyLine(f, 1)
	for _, text := range []string{line, `me namespaces="git,ferry" ` + line + "\n# x\n", publicPEM(f, testKey(1).Public()), `"a b" ` + line, "a\\\" " + line} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parsePublic(text)
		if err != nil {
			return
		}
		for _, key := range keys {
			if !strings.HasPrefix(key.fingerprint, "SHA256:") || key.line < 1 || key.line > 1+bytes.Count(text, []byte("\n")) {
				t.Errorf("key %+v of %q", key, text)
			}
		}
	})
}
