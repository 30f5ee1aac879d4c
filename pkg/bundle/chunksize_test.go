package bundle

import (
	"testing"

	"ferry/pkg/fault"
)

func TestParseChunkSize(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want int64 // -1: refused
	}{
		{"0", 0},
		{"0GB", 0},
		{"4", 4_000_000_000},
		{"4GB", 4_000_000_000},
		{"4GiB", 4 << 30},
		{"4.7GB", 4_700_000_000},
		{"0.5KiB", 512},
		{"1.0001KB", 1000},
		{"650MiB", 650 << 20},
		{"1024B", 1024},
		{"2TB", 2_000_000_000_000},
		{"1TiB", 1 << 40},
		{"8388607TiB", 8388607 << 40},
		{"8388608TiB", -1}, // one byte more than an int64 holds
		{"99999999999999999999", -1},
		{"-1", -1},
		{"-1GB", -1},
		{"+1", -1},
		{"4.7", -1},
		{"0.1B", -1},
		{"", -1},
		{"GB", -1},
		{"4 GB", -1},
		{"4gb", -1},
		{"4iB", -1},
		{"4M", -1},
		{"1e3B", -1},
		{".5GB", -1},
		{"5.GB", -1},
		{"0x10B", -1},
		{"1/2GB", -1},
	} {
		got, err := ParseChunkSize(tc.in)
		if tc.want < 0 {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%q: got %d, %v, want a usage error", tc.in, got, err)
			}
			continue
		}
		if err != nil || got != tc.want {
			t.Errorf("%q: got %d, %v, want %d", tc.in, got, err, tc.want)
		}
	}
}

func FuzzParseChunkSize(f *testing.F) {
	for _, s := range []string{"0", "4.7GB", "650MiB", "9999999999999999999TiB", "0.0000001B", "-1", "1.GB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		size, err := ParseChunkSize(s)
		if err == nil && size < 0 {
			t.Errorf("%q is %d bytes", s, size)
		}
		if err != nil && (size != 0 || fault.KindOf(err) != fault.Usage) {
			t.Errorf("%q: %d, %v", s, size, err)
		}
	})
}
