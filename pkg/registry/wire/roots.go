package wire

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// rootsWith returns the system's roots, SSL_CERT_FILE and SSL_CERT_DIR heeded,
// and those of text, which is PEM. Without any it returns nil, which stands for
// the system's. Nothing in text is passed over: with a damaged certificate left
// out, every connection would fail for a reason that nobody sees.
func rootsWith(text string) (*x509.CertPool, error) {
	if text == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's cannot be read: %w", err)
	}
	found := 0
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a %s among them; only certificates belong there", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", found+1, err)
		}
		pool.AddCert(cert)
		found++
	}
	switch begun := strings.Count(text, "-----BEGIN "); { // the decoder passes over what is cut
	case begun == 0:
		return nil, errors.New("no certificate in PEM is among them")
	case begun != found:
		return nil, fmt.Errorf("%d of %d certificates are cut or altered", begun-found, begun)
	}
	return pool, nil
}
