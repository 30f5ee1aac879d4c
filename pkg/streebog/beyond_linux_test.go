package streebog

import (
	"bytes"
	"hash"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A message may end where memory does. Who reads on is killed there.
func TestNothingIsReadAroundAMessage(t *testing.T) {
	page := os.Getpagesize()
	memory, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(memory) })
	for _, around := range [][]byte{memory[:page], memory[2*page:]} {
		if err := unix.Mprotect(around, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	data := memory[page : 2*page]
	for i := range data {
		data[i] = byte(i)
	}
	inEachForm(t, func(t *testing.T, newHash func(int) hash.Hash) {
		for _, n := range []int{0, 1, 63, 64, 65, 127, 128, 129} {
			for _, message := range [][]byte{data[:n], data[page-n:]} {
				h := newHash(Size256)
				h.Write(message)
				if got, want := h.Sum(nil), defined(Size256, message); !bytes.Equal(got, want) {
					t.Errorf("%d bytes: %x, want %x", n, got, want)
				}
			}
		}
	})
}
