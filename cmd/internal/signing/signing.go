// Package signing reads the key of --sign-key, for the stages whose documents are
// signed.
package signing

import (
	"ferry/pkg/signature"
	"ferry/pkg/stage"
)

// Key reads the private key of --sign-key, nil where path is "". It is called
// before any work is done. Kinds: fault.Usage, fault.Local.
func Key(s *stage.Session, path string) (*signature.PrivateKey, error) {
	if path == "" {
		return nil, nil
	}
	return signature.ReadPrivateKey(path, s.Getenv(signature.PassphraseEnv))
}

// Environment is for the manual of a stage with --sign-key.
func Environment() stage.Variable {
	return stage.Variable{Name: signature.PassphraseEnv, Help: "The passphrase of the key of --sign-key, where that is encrypted."}
}
