package signature

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"runtime"

	"golang.org/x/crypto/ssh"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// PassphraseEnv is the environment variable with the passphrase of a private
// key: an argument can be seen by every user of the machine.
const PassphraseEnv = "FERRY_SIGN_KEY_PASSPHRASE"

// keyLimit is many times what a private key takes, in bytes.
const keyLimit = 64 << 10

// PrivateKey signs documents. It is safe for concurrent use.
type PrivateKey struct{ signer ssh.Signer }

// ReadPrivateKey reads an Ed25519 key from a file as ssh-keygen writes it, or
// from one in PEM (PKCS#8), as openssl does. passphrase opens an encrypted key
// of OpenSSH, and is not looked at for another. A file that others than its
// owner may use is refused. Nothing of the file's content, and no passphrase,
// gets into an error. Kinds: fault.Usage, fault.Local.
func ReadPrivateKey(path, passphrase string) (*PrivateKey, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	raw, err := parsePrivate(text, passphrase)
	if err != nil {
		return nil, fault.About(path, err)
	}
	signer, err := ssh.NewSignerFromKey(raw)
	if err != nil {
		return nil, fault.New(fault.Usage, path, err)
	}
	return &PrivateKey{signer}, nil
}

func readPrivate(path string) ([]byte, error) {
	f, err := open(path, "private key")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	// Windows has no such bits, and shows others in their place.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fault.Newf(fault.Usage, path, "other users have rights to this private key (mode %04o)", mode).
			Hint("chmod 600 %s; and if others may have read it, make another key", path)
	}
	return readLimited(f, path, keyLimit)
}

// open opens a file of keys. One that is not there is a mistake of the command
// line, which is found before any work is done.
func open(path, what string) (*os.File, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fault.Newf(fault.Usage, path, "there is no such %s", what)
	case errors.Is(err, os.ErrPermission):
		return nil, fault.Newf(fault.Usage, path, "this user may not read the %s", what)
	}
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, fault.Newf(fault.Usage, path, "this is a directory, and a file with a %s is wanted", what)
	}
	return f, nil
}

func readLimited(f io.Reader, path string, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	if int64(len(text)) > limit {
		return nil, fault.Newf(fault.Usage, path, "the file has more than %d bytes, and is none of keys", limit)
	}
	return text, nil
}

const hintMakeKey = "ssh-keygen -t ed25519 -f FILE makes one"

// parsePrivate reads one key and refuses a file with several: nobody could tell
// which one signs.
func parsePrivate(text []byte, passphrase string) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fault.Newf(fault.Usage, "", "this is no private key of OpenSSH, and none in PEM (PKCS#8)").Hint("%s", hintMakeKey)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fault.Newf(fault.Usage, "", "there is more in the file than one private key").Hint("name a file with one key")
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, fault.Newf(fault.Usage, "", "this is an encrypted key in PEM, and only OpenSSH's encryption is known").
			Hint("ssh-keygen -p -f FILE writes it in the form of OpenSSH, if it can read it; else make a key with ssh-keygen -t ed25519")
	case block.Type != "PRIVATE KEY" && block.Type != "OPENSSH PRIVATE KEY":
		return nil, fault.Newf(fault.Usage, "", "the file holds %q, and no private key of OpenSSH or PKCS#8", block.Type).Hint("%s", hintMakeKey)
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		raw, err = unlock(text, passphrase)
	}
	if fault.KindOf(err) != nil {
		return nil, err
	}
	if err != nil {
		return nil, fault.Newf(fault.Usage, "", "the private key cannot be read: it is cut, altered, or of a kind that is not known").
			Hint("%s", hintMakeKey)
	}
	switch key := raw.(type) {
	case ed25519.PrivateKey:
		return key, nil
	case *ed25519.PrivateKey:
		return *key, nil
	}
	return nil, fault.Newf(fault.Usage, "", "the private key is not one of Ed25519, which are the only ones that sign here").Hint("%s", hintMakeKey)
}

func unlock(text []byte, passphrase string) (any, error) {
	if passphrase == "" {
		return nil, fault.Newf(fault.Usage, "", "the private key is encrypted").
			Hint("put its passphrase into the environment variable %s", PassphraseEnv)
	}
	raw, err := ssh.ParseRawPrivateKeyWithPassphrase(text, []byte(passphrase))
	if err != nil {
		return nil, fault.Newf(fault.Usage, "", "the passphrase in %s does not open the private key", PassphraseEnv)
	}
	return raw, nil
}

// Fingerprint names the key as ssh-keygen -l does: "SHA256:...".
func (k *PrivateKey) Fingerprint() string { return ssh.FingerprintSHA256(k.signer.PublicKey()) }

// Sign returns the armored signature of a document: the text of its file of the
// same name with contract.SignatureSuffix.
func (k *PrivateKey) Sign(document []byte) ([]byte, error) {
	signature, err := k.signer.Sign(rand.Reader, state(nil, document))
	if err != nil {
		return nil, err
	}
	return armor(ssh.Marshal(envelope{
		Magic: magic, Version: version, Key: k.signer.PublicKey().Marshal(), Namespace: Namespace, Hash: hashName,
		Signature: ssh.Marshal(signatureBlob{signature.Format, signature.Blob}),
	})), nil
}
