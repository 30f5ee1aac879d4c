package connect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/registry/wire"
)

// Connection is how one registry is reached, as a file that a stage which knows
// a vendor writes for those that know none (S8.2). It may hold a password, so it
// is no document: it does not travel, and whoever had it made removes it.
type Connection struct {
	// Host is the registry, HOST[:PORT]. What the file says is of it alone.
	Host string `json:"host"`
	// PlainHTTP says that the registry does not speak TLS.
	PlainHTTP bool `json:"plainHTTP,omitempty"`
	// CA are certificates in PEM, trusted beside the system's.
	CA string `json:"ca,omitempty"`
	// Login and Password log in there; without a login it is anonymous,
	// whatever docker's configuration says.
	Login    string `json:"login,omitempty"`
	Password string `json:"password,omitempty"`
}

// connectionLimit is the largest connection file, in bytes.
const connectionLimit = 1 << 20

// ReadConnection reads a connection file, strictly. No error quotes it.
// Kind: fault.Usage.
func ReadConnection(path string) (*Connection, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Usage, "--connection", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, connectionLimit))
	if err != nil {
		return nil, fault.New(fault.Usage, "--connection", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	c := &Connection{}
	err = dec.Decode(c)
	if err == nil {
		if _, after := dec.Token(); !errors.Is(after, io.EOF) {
			err = errors.New("something follows the JSON object")
		}
	}
	switch {
	case err != nil:
	case c.Host == "":
		err = errors.New("it names no host")
	case c.Login == "" && c.Password != "":
		err = errors.New("it has a password, but no login")
	}
	if err != nil {
		return nil, fault.Newf(fault.Usage, "--connection", "%s is no connection file: %w", path, err).
			Hint("let the stage that wrote it write it again")
	}
	return c, nil
}

// Write writes the file for its owner alone. Kinds as durable.WriteFile.
func (c *Connection) Write(path string) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o600)
}

// suits refuses a connection to another registry than the images' (host is ""
// where they come from several), and a second login: one of them is meant for
// another registry. Kind: fault.Usage.
func (c *Connection) suits(host string, login wire.Credential) error {
	if host != "" && host != c.Host {
		return fault.Newf(fault.Usage, "--connection", "it is for %s, and the images are at %s", c.Host, host)
	}
	if login != (wire.Credential{}) {
		return fault.Newf(fault.Usage, "--connection", "it tells the login, and another one is given too").
			Hint("leave login, password and licence out, and unset their environment variables")
	}
	return nil
}
