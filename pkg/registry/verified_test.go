package registry_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

// A blob that nobody stores is proven by its reader: other bytes of the same
// length, fewer and more are no clean end, however they come.
func TestVerified(t *testing.T) {
	t.Parallel()
	const blob = "content of the blob"
	desc := oci.Descriptor{Digest: oci.DigestOf([]byte(blob)), Size: int64(len(blob))}
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		body io.Reader
		want error
	}{
		"right":          {strings.NewReader(blob), nil},
		"byte by byte":   {iotest.OneByteReader(strings.NewReader(blob)), nil},
		"end with bytes": {iotest.DataErrReader(strings.NewReader(blob)), nil},
		"other":          {strings.NewReader("Content of the blob"), fault.Protocol},
		"other, at once": {iotest.DataErrReader(strings.NewReader("Content of the blob")), fault.Protocol},
		"fewer":          {strings.NewReader(blob[1:]), fault.Protocol},
		"more":           {strings.NewReader(blob + "!"), fault.Protocol},
		"broken":         {io.MultiReader(strings.NewReader(blob), iotest.ErrReader(broken)), broken},
	} {
		_, err := io.ReadAll(registry.Verified(io.NopCloser(tt.body), desc))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}
