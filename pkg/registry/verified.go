package registry

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Verified reads a whole blob that a Source has opened, for those who keep it
// nowhere: it ends with fault.Protocol, never a clean EOF, unless all of it is
// what desc names. What was read before its end is not proven.
func Verified(body io.ReadCloser, desc oci.Descriptor) io.ReadCloser {
	return &verified{ReadCloser: body, desc: desc, hash: sha256.New()}
}

type verified struct {
	io.ReadCloser
	desc oci.Descriptor
	hash hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.hash.Write(p[:n])
	if err != io.EOF {
		return n, err
	}
	if got := oci.DigestFromSum(v.hash.Sum(nil)); got != v.desc.Digest {
		return n, fault.New(fault.Protocol, string(v.desc.Digest), fmt.Errorf("the bytes received have the digest %s", got)).
			Hint("the source, or a proxy before it, sends other bytes than it names; ask who runs it")
	}
	return n, io.EOF
}
