package signature

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"ferry/pkg/fault"
)

// publicLimit is how large a file of public keys may be, in bytes.
const publicLimit = 1 << 20

// PublicKeys are those whose signatures are believed, any of them.
type PublicKeys struct {
	path string
	keys []publicKey
}

// publicKey is a key of the file, and why it does not count, "" if it does.
type publicKey struct {
	fingerprint string
	line        int
	ignored     string
}

// Signer is who signed a document.
type Signer struct {
	// Fingerprint is that of the key, as ssh-keygen -l shows it: "SHA256:...".
	Fingerprint string
	// File and Line are where the key was found.
	File string
	Line int
}

func (s Signer) String() string {
	return fmt.Sprintf("%s (line %d of %s)", s.Fingerprint, s.Line, s.File)
}

// ReadPublicKeys reads a file with keys of OpenSSH, one a line, as id.pub,
// authorized_keys or allowed_signers have them, or with keys in PEM. Lines that
// say that their key is for something else do not count: other algorithms than
// Ed25519, cert-authority, namespaces without "ferry"; and those that say when a
// key counts, for no clock is asked. Without a key that counts the file is
// refused, and with a line that cannot be read: it may be the one that matters.
// Kinds: fault.Usage, fault.Local.
func ReadPublicKeys(path string) (*PublicKeys, error) {
	f, err := open(path, "file of public keys")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readLimited(f, path, publicLimit)
	if err != nil {
		return nil, err
	}
	keys, err := parsePublic(text)
	if err != nil {
		return nil, fault.New(fault.Usage, path, err).
			Hint("wanted are lines such as those of id_ed25519.pub, authorized_keys or allowed_signers, or a public key in PEM")
	}
	if !slices.ContainsFunc(keys, publicKey.counts) {
		err := fault.Newf(fault.Usage, path, "there is no key that counts in the file")
		if len(keys) > 0 {
			err.Hint("line %d: %s", keys[0].line, keys[0].ignored)
		}
		return nil, err
	}
	return &PublicKeys{path, keys}, nil
}

func (k publicKey) counts() bool { return k.ignored == "" }

func parsePublic(text []byte) ([]publicKey, error) {
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		return nil, errors.New("there is a private key in it; name the file of the public one, and keep this one from the medium")
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN ")) {
		return parsePEM(text)
	}
	var keys []publicKey
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		key.line = number
		keys = append(keys, key)
	}
	return keys, nil
}

// parsePEM reads public keys in PEM and nothing else.
func parsePEM(text []byte) ([]publicKey, error) {
	var keys []publicKey
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		line := 1 + bytes.Count(text[:bytes.LastIndex(text, rest)], []byte("\n"))
		block, behind := pem.Decode(rest)
		// The decoder passes over what stands in front of a block.
		if block == nil || block.Type != "PUBLIC KEY" || !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return nil, fmt.Errorf("line %d: this is no public key in PEM", line)
		}
		raw, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("line %d: the public key cannot be read", line)
		}
		key, err := ssh.NewPublicKey(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d: the public key is of no kind that signs", line)
		}
		keys = append(keys, publicKey{ssh.FingerprintSHA256(key), line, notEd25519(key.Type())})
		rest = bytes.TrimSpace(behind)
	}
	return keys, nil
}

func notEd25519(algorithm string) string {
	if algorithm == ssh.KeyAlgoED25519 {
		return ""
	}
	return fmt.Sprintf("the key is of the algorithm %s, and %s is wanted", algorithm, ssh.KeyAlgoED25519)
}

// parseLine reads a line of any of OpenSSH's three forms: in front of the
// algorithm and the key there may be principals, options, or both.
func parseLine(line string) (publicKey, error) {
	fields, err := split(line, " \t")
	if err != nil {
		return publicKey{}, err
	}
	for i := range min(3, len(fields)-1) {
		blob, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil || fields[i] == "" || algorithmOf(blob) != fields[i] {
			continue
		}
		ignored := notEd25519(fields[i])
		if ignored == "" {
			if _, err := parseKey(blob); err != nil {
				return publicKey{}, err
			}
			ignored, err = limits(fields[:i])
		}
		return publicKey{fingerprint: fingerprint(blob), ignored: ignored}, err
	}
	return publicKey{}, errors.New("there is no public key of OpenSSH in it")
}

// fingerprint is that of any key on the wire, also of one that is not known.
func fingerprint(blob []byte) string { return ssh.FingerprintSHA256(wireKey(blob)) }

// wireKey is a key by its bytes alone.
type wireKey []byte

func (k wireKey) Type() string                        { return algorithmOf(k) }
func (k wireKey) Marshal() []byte                     { return k }
func (k wireKey) Verify([]byte, *ssh.Signature) error { return errors.New("not to be asked") }

// limits tells why the words in front of a key keep it from counting, "" where
// none does. Options for logins, such as from="...", say nothing of signatures.
func limits(words []string) (string, error) {
	for _, word := range words {
		options, err := split(word, ",")
		if err != nil {
			return "", err
		}
		for _, option := range options {
			name, value, _ := strings.Cut(option, "=")
			if reason := limit(strings.ToLower(name), strings.Trim(value, `"`)); reason != "" {
				return reason, nil
			}
		}
	}
	return "", nil
}

func limit(name, value string) string {
	switch name {
	case "cert-authority", "@cert-authority", "@revoked":
		return fmt.Sprintf("the line says that the key is no signer's (%s)", name)
	case "valid-after", "valid-before", "expiry-time":
		return fmt.Sprintf("when the key counts (%s) depends on a clock, and ferry asks none; leave that out of the line, or the line out of the file", name)
	case "namespaces":
		patterns := strings.Split(value, ",")
		denies := slices.ContainsFunc(patterns, func(p string) bool { return strings.HasPrefix(p, "!") })
		if denies || !slices.Contains(patterns, Namespace) && !slices.Contains(patterns, "*") {
			return fmt.Sprintf("the key is not for signatures of %s (namespaces=%q); name it there in full", Namespace, value)
		}
	}
	return ""
}

// split cuts a line at the separators that stand outside of double quotes, and
// leaves empty words out.
func split(line, separators string) ([]string, error) {
	var words []string
	begin, quoted, escaped := 0, false, false
	for i, r := range line + separators[:1] {
		switch {
		case i == len(line) && quoted:
			return nil, errors.New("a double quote is not closed")
		case escaped:
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case !quoted && strings.ContainsRune(separators, r):
			if i > begin {
				words = append(words, line[begin:i])
			}
			begin = i + 1
		}
	}
	return words, nil
}

// Verify tells who signed the document, which is the content of a file, by the
// armored signature in the file name. Whatever is wrong is fault.Damaged: that
// there is no signature at all is for the caller to see, and another matter (N22).
func (k *PublicKeys) Verify(document, armored []byte, name string) (Signer, error) {
	p, err := parse(armored)
	if err != nil {
		return Signer{}, fault.Newf(fault.Damaged, name, "this is no signature of ferry: %w", err).Hint("%s", hintWrong)
	}
	signer := Signer{Fingerprint: ssh.FingerprintSHA256(p.key), File: k.path}
	key, err := k.find(signer.Fingerprint)
	if err != nil {
		return Signer{}, fault.New(fault.Damaged, name, err).
			Hint("if it is the key of whoever makes the bundles, proven by another way than this medium, add it to %s", k.path)
	}
	if !p.holds(document) {
		return Signer{}, fault.Newf(fault.Damaged, name, "the document is not the one that %s signed", signer.Fingerprint).Hint("%s", hintWrong)
	}
	signer.Line = key.line
	return signer, nil
}

const hintWrong = "copy the document and its signature again from the medium; if that changes nothing, one of them was altered: use nothing of it"

// find returns the key that counts.
func (k *PublicKeys) find(fingerprint string) (publicKey, error) {
	err := fmt.Errorf("it is by the key %s, which is not among the keys of %s", fingerprint, k.path)
	for _, key := range k.keys {
		if key.fingerprint != fingerprint {
			continue
		}
		if key.counts() {
			return key, nil
		}
		err = fmt.Errorf("it is by the key %s in line %d of %s, which does not count: %s", fingerprint, key.line, k.path, key.ignored)
	}
	return publicKey{}, err
}
