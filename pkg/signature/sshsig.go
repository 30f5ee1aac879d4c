package signature

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

const (
	armorBegin = "-----BEGIN SSH SIGNATURE-----"
	armorEnd   = "-----END SSH SIGNATURE-----"
	// armorWidth is that of ssh-keygen, so that its signatures and ours are the
	// same to the byte.
	armorWidth = 70
	// armorLimit is many times what a signature by Ed25519 takes, in bytes.
	armorLimit = 16 << 10

	version  = 1
	hashName = "sha512"
)

var magic = [6]byte{'S', 'S', 'H', 'S', 'I', 'G'}

// envelope is what the armor holds, in the order of the wire.
type envelope struct {
	Magic     [6]byte
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  []byte
	Hash      string
	Signature []byte
}

// statement is what the key signs: with the namespace, so that a signature for
// one use is none for another.
type statement struct {
	Magic     [6]byte
	Namespace string
	Reserved  []byte
	Hash      string
	Digest    []byte
}

// keyBlob is an Ed25519 key on the wire, and signatureBlob a signature by one.
// Both end where their fields end: what stands behind these is refused.
type keyBlob struct {
	Algorithm string
	Key       []byte
}

type signatureBlob struct {
	Algorithm string
	Signature []byte
}

// state is the statement about a document, as it is signed.
func state(reserved, document []byte) []byte {
	digest := sha512.Sum512(document)
	return ssh.Marshal(statement{magic, Namespace, reserved, hashName, digest[:]})
}

// parsed is a well-formed signature of ours, of which nothing is proven yet.
type parsed struct {
	key       ssh.PublicKey
	reserved  []byte
	signature []byte
}

// parse reads an armored signature. Everything that is not exactly one
// signature of ours is refused: what a reader does not understand it must not
// pass over, or two readers see two things in one file.
func parse(text []byte) (*parsed, error) {
	raw, err := dearmor(text)
	if err != nil {
		return nil, err
	}
	var e envelope
	if err := ssh.Unmarshal(raw, &e); err != nil {
		return nil, errors.New("it is cut, or has more in it than a signature")
	}
	switch {
	case e.Magic != magic:
		return nil, errors.New("it is no signature of a file")
	case e.Version != version:
		return nil, fmt.Errorf("it is of version %d, and version %d is known", e.Version, version)
	case e.Namespace != Namespace:
		return nil, fmt.Errorf("it was made for %q, and not for %q (ssh-keygen -Y sign -n %s)", e.Namespace, Namespace, Namespace)
	case e.Hash != hashName:
		return nil, fmt.Errorf("it is over the hash %q, and %s is wanted", e.Hash, hashName)
	}
	key, err := parseKey(e.Key)
	if err != nil {
		return nil, err
	}
	var s signatureBlob
	if err := ssh.Unmarshal(e.Signature, &s); err != nil {
		return nil, errors.New("it is cut, or has more in it than a signature")
	}
	if s.Algorithm != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("it is of the algorithm %q, and %s is wanted", s.Algorithm, ssh.KeyAlgoED25519)
	}
	return &parsed{key, e.Reserved, s.Signature}, nil
}

// parseKey reads an Ed25519 key from the wire.
func parseKey(blob []byte) (ssh.PublicKey, error) {
	if name := algorithmOf(blob); name != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("the key is of the algorithm %q, and %s is wanted", name, ssh.KeyAlgoED25519)
	}
	var k keyBlob
	if err := ssh.Unmarshal(blob, &k); err != nil {
		return nil, errors.New("the key is cut, or has more in it than a key")
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, errors.New("the key has not the size of an Ed25519 key")
	}
	return key, nil
}

// algorithmOf is the name that a key on the wire begins with, "" for no key.
func algorithmOf(blob []byte) string {
	var k struct {
		Algorithm string
		Rest      []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(blob, &k) != nil {
		return ""
	}
	return k.Algorithm
}

// holds tells whether the key signed this document.
func (p *parsed) holds(document []byte) bool {
	return p.key.Verify(state(p.reserved, document), &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: p.signature}) == nil
}

// armor writes a signature as ssh-keygen does.
func armor(raw []byte) []byte {
	text := base64.StdEncoding.EncodeToString(raw)
	var b bytes.Buffer
	b.WriteString(armorBegin + "\n")
	for len(text) > 0 {
		n := min(armorWidth, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString(armorEnd + "\n")
	return b.Bytes()
}

// dearmor takes the armor off: one block, and nothing before or behind it but
// ends of lines, which travel as they like.
func dearmor(text []byte) ([]byte, error) {
	if len(text) > armorLimit {
		return nil, fmt.Errorf("it has more than the %d bytes that a signature may have", armorLimit)
	}
	body, begins := bytes.CutPrefix(text, []byte(armorBegin+"\n"))
	if !begins {
		body, begins = bytes.CutPrefix(text, []byte(armorBegin+"\r\n"))
	}
	body, ends := bytes.CutSuffix(bytes.TrimRight(body, "\r\n"), []byte("\n"+armorEnd))
	if !begins || !ends {
		return nil, fmt.Errorf("it is not one block from %q to %q", armorBegin, armorEnd)
	}
	// The decoder passes over ends of lines, and refuses all else.
	raw, err := base64.StdEncoding.Strict().DecodeString(string(body))
	if err != nil {
		return nil, errors.New("what stands between its first and last line is not base64, or is more than one block")
	}
	return raw, nil
}
