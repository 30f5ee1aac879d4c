package streebog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math/big"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// igor is the second message of RFC 6986: "Се ветри, Стрибожи внуци, веютъ с
// моря стрелами на храбрыя плъкы Игоревы" in the code page Windows-1251.
const igor = "\xd1\xe5 \xe2\xe5\xf2\xf0\xe8, \xd1\xf2\xf0\xe8\xe1\xee\xe6\xe8 \xe2\xed\xf3\xf6\xe8, \xe2\xe5\xfe\xf2\xfa \xf1 " +
	"\xec\xee\xf0\xff \xf1\xf2\xf0\xe5\xeb\xe0\xec\xe8 \xed\xe0 \xf5\xf0\xe0\xe1\xf0\xfb\xff \xef\xeb\xfa\xea\xfb \xc8\xe3\xee\xf0\xe5\xe2\xfb"

// digits is the first one, and that of S6.7.2.
var digits = strings.Repeat("0123456789", 7)[:63]

var vectors = []struct{ name, message, sum256, sum512 string }{
	{
		"S6.7.2, RFC 6986 10.1", digits,
		"9d151eefd8590b89daa6ba6cb74af9275dd051026bb149a452fd84e5e57b5500",
		"1b54d01a4af5b9d5cc3d86d68d285462b19abc2475222f35c085122be4ba1ffa00ad30f8767b3a82384c6574f024c311e2a481332b08ef7f41797891c1646f48",
	},
	{
		"RFC 6986 10.2", igor,
		"9dd2fe4e90409e5da87f53976d7405b0c0cac628fc669a741d50063c557e8f50",
		"1e88e62226bfca6f9994f1f2d51569e0daf8475a3b0fe61a5300eee46d961376035fe83549ada2b8620fcd7c496ce5b33f0cb9dddc2b6460143b03dabac9fb28",
	},
	{
		"nothing", "",
		"3f539a213e97c802cc229d474c6aa32a825a360b2a933a949fd925208d9ce1bb",
		"8e945da209aa869f0455928529bcae4679e9873ab707b55315f56ceb98bef0a7362f715528356ee83cda5f2aac4c6ad2ba3a715c1bcd81cb8e9f90bf4c1c1a8a",
	},
}

// forms are the ways to the same sums.
var forms = []struct {
	name string
	wide bool
	has  bool // this processor
}{{"tables", false, true}, {"wide", true, haveWide}}

// inEachForm runs a test for each of the forms; newHash is newDigest of that form.
func inEachForm(t *testing.T, test func(t *testing.T, newHash func(size int) hash.Hash)) {
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			if !form.has {
				t.Skip("this processor has not got the instructions")
			}
			test(t, func(size int) hash.Hash { return newDigest(size, form.wide) })
		})
	}
}

// sizes are those of the sums.
var sizes = []int{Size256, Size512}

// sumOf hashes data in one piece.
func sumOf(h hash.Hash, data []byte) string {
	h.Reset()
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			inEachForm(t, func(t *testing.T, newHash func(int) hash.Hash) {
				if got := sumOf(newHash(Size256), []byte(v.message)); got != v.sum256 {
					t.Errorf("256: %s, want %s", got, v.sum256)
				}
				if got := sumOf(newHash(Size512), []byte(v.message)); got != v.sum512 {
					t.Errorf("512: %s, want %s", got, v.sum512)
				}
			})
			// The definition below, by which the rest is judged.
			if got := hex.EncodeToString(defined(Size512, []byte(v.message))); got != v.sum512 {
				t.Errorf("the definition: %s, want %s", got, v.sum512)
			}
		})
	}
}

// What users get: the wide form where the processor has it, and its sums.
func TestNewTakesTheWideFormWhereItIs(t *testing.T) {
	for _, v := range vectors {
		for want, h := range map[string]hash.Hash{v.sum256: New256(), v.sum512: New512()} {
			if got := sumOf(h, []byte(v.message)); got != want {
				t.Errorf("%s: %s, want %s", v.name, got, want)
			}
			if wide := h.(*digest).wide; wide != haveWide {
				t.Errorf("the form for sums of %d is wide: %v, want %v", h.Size(), wide, haveWide)
			}
		}
	}
}

// From the same chain the same block leads to the same chain, in both forms. Every
// bit of each, alone and among random ones, and every length that 64 bits can tell.
func TestFormsAgree(t *testing.T) {
	if !haveWide {
		t.Skip("this processor has not got the instructions")
	}
	random := rand.New(rand.NewPCG(5, 6))
	some := func() (w words) {
		for i := range w {
			w[i] = random.Uint64()
		}
		return w
	}
	agree := func(h words, n uint64, m words) {
		t.Helper()
		type chain struct{ h, sigma words }
		got, want := chain{h, m}, chain{h, m}
		p := m.bytes()
		takeWide(&got.h, &got.sigma, n, p[:])
		takeTables(&want.h, &want.sigma, n, p[:])
		if got != want {
			t.Fatalf("chain %x, %d bits, block %x: %x, want %x", h, n, m, got, want)
		}
	}
	for range 10000 {
		agree(some(), random.Uint64()>>random.IntN(64), some())
	}
	for bit := range 8 * BlockSize {
		var one words
		one[bit/64] = 1 << (bit % 64)
		agree(one, 0, words{})
		agree(words{}, 0, one)
		agree(words{}, one[0], words{})
	}
}

// Around the ends of blocks, where padding, length and sum change.
func TestEveryLengthIsAsDefined(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 200)
	random.Read(data)
	want := map[int][]string{}
	for _, size := range sizes {
		for n := range len(data) + 1 {
			want[size] = append(want[size], hex.EncodeToString(defined(size, data[:n])))
		}
	}
	inEachForm(t, func(t *testing.T, newHash func(int) hash.Hash) {
		for size, sums := range want {
			for n, sum := range sums {
				if got := sumOf(newHash(size), data[:n]); got != sum {
					t.Errorf("%d bytes, sum of %d: %s, want %s", n, size, got, sum)
				}
			}
		}
	})
}

// The sum of the blocks overflows, from word to word and beyond the last.
func TestCarriesAreAsDefined(t *testing.T) {
	ones, zeros := bytes.Repeat([]byte{0xff}, BlockSize), make([]byte, BlockSize)
	one := append([]byte{1}, zeros[1:]...)
	for name, blocks := range map[string][][]byte{
		"one carry through all words": {ones, one, zeros},
		"the largest numbers":         {ones, ones, ones, ones},
		"a carry out of each word":    {bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 0x80}, 8), bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 0x80}, 8)},
		"a carry into a full word":    {append(bytes.Repeat([]byte{0xff}, 16), zeros[16:]...), one, append(zeros[:8:8], ones[8:]...)},
	} {
		t.Run(name, func(t *testing.T) {
			data := bytes.Join(blocks, nil)
			want := hex.EncodeToString(defined(Size256, data))
			inEachForm(t, func(t *testing.T, newHash func(int) hash.Hash) {
				if got := sumOf(newHash(Size256), data); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		})
	}
}

// However a message is cut into writes, and whatever sums are asked for on the
// way, the sum is that of the whole. Many bytes are 0xff, for carries.
func TestSplitWritesAreAsDefined(t *testing.T) {
	inEachForm(t, func(t *testing.T, newHash func(int) hash.Hash) {
		random := rand.New(rand.NewPCG(1, 2))
		for range 100 {
			data := make([]byte, random.IntN(20*BlockSize))
			for i := range data {
				data[i] = byte(random.Uint32() | -random.Uint32N(2)) // half of them all ones
			}
			for _, size := range sizes {
				h := newHash(size)
				var cuts []int
				for rest := data; len(rest) > 0; {
					n := min(len(rest), random.IntN(1+random.IntN(5*BlockSize)))
					if m, err := h.Write(rest[:n]); m != n || err != nil {
						t.Fatalf("Write of %d bytes returns %d, %v", n, m, err)
					}
					cuts, rest = append(cuts, n), rest[n:]
					if random.IntN(4) == 0 {
						h.Sum(nil)
					}
				}
				got, want := h.Sum([]byte("head"))[4:], defined(size, data)
				if !bytes.Equal(got, want) {
					t.Fatalf("%x in pieces of %d: %x, want %x", data, cuts, got, want)
				}
			}
		}
	})
}

func TestWriteAllocatesNothing(t *testing.T) {
	inEachForm(t, func(t *testing.T, newHash func(int) hash.Hash) {
		h, data, sum := newHash(Size256), make([]byte, 1000), make([]byte, 0, Size256)
		if n := testing.AllocsPerRun(10, func() { h.Write(data); h.Sum(sum) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// FuzzWrite cuts a message at two places, for each form.
func FuzzWrite(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte(v.message), 1, 64)
	}
	f.Add(bytes.Repeat([]byte{0xff}, 200), 63, 65)
	f.Fuzz(func(t *testing.T, data []byte, a, b int) {
		if len(data) > 1000 {
			data = data[:1000] // the definition is slow
		}
		a = min(max(a, 0), len(data))
		b = min(max(b, a), len(data))
		for _, size := range sizes {
			want := defined(size, data)
			for _, form := range forms {
				if !form.has {
					continue
				}
				h := newDigest(size, form.wide)
				for _, piece := range [][]byte{data[:a], data[a:b], data[b:]} {
					h.Write(piece)
				}
				if got := h.Sum(nil); !bytes.Equal(got, want) {
					t.Errorf("%s: %x cut at %d and %d: %x, want %x", form.name, data, a, b, got, want)
				}
			}
		}
	})
}

// Another implementation, where there is one.
func TestAgainstOtherTools(t *testing.T) {
	random := rand.NewChaCha8([32]byte{3})
	tried := false
	for _, tool := range [][]string{
		{"rhash", "--simple", "--gost12-256", "-"},
		{"openssl", "dgst", "-r", "-md_gost12_256"},
	} {
		if err := exec.Command(tool[0], append(tool[1:], "/dev/null")...).Run(); err != nil {
			continue
		}
		tried = true
		for _, n := range []int{0, 1, 63, 64, 65, 1 << 16} {
			data := make([]byte, n)
			random.Read(data)
			cmd := exec.Command(tool[0], tool[1:]...)
			cmd.Stdin = bytes.NewReader(data)
			out, err := cmd.Output()
			if want := sumOf(New256(), data); err != nil || !strings.HasPrefix(string(out), want) {
				t.Errorf("%d bytes: %s says %q, %v; want %s", n, tool[0], out, err, want)
			}
		}
	}
	if !tried {
		t.Skip("neither rhash nor an openssl with GOST is installed")
	}
}

// defined is the hash as the standard words it: over vectors of bytes with the
// highest first, in steps of its own, without tables or words.
func defined(size int, message []byte) []byte {
	h := bytes.Repeat([]byte{0}, 64)
	if size == Size256 {
		h = bytes.Repeat([]byte{1}, 64)
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 512)
	sum := func(a []byte, b *big.Int) []byte {
		n := new(big.Int).SetBytes(a)
		return n.Add(n, b).Mod(n, modulus).FillBytes(make([]byte, 64))
	}
	n, sigma := make([]byte, 64), make([]byte, 64)
	rest := backwards(message) // the first byte of a message is its lowest
	for len(rest) >= 64 {
		m := rest[len(rest)-64:]
		h = definedG(n, h, m)
		n = sum(n, big.NewInt(512))
		sigma = sum(sigma, new(big.Int).SetBytes(m))
		rest = rest[:len(rest)-64]
	}
	m := append(make([]byte, 63-len(rest)), 1)
	m = append(m, rest...)
	h = definedG(n, h, m)
	n = sum(n, big.NewInt(int64(8*len(rest))))
	sigma = sum(sigma, new(big.Int).SetBytes(m))
	h = definedG(make([]byte, 64), h, n)
	h = definedG(make([]byte, 64), h, sigma)
	return backwards(h[:size])
}

func definedG(n, h, m []byte) []byte {
	key := definedLPS(xor(h, n))
	state := m
	for i := range 12 {
		state = definedLPS(xor(state, key))
		key = definedLPS(xor(key, roundConstant(i)))
	}
	return xor(xor(xor(state, key), h), m)
}

func definedLPS(a []byte) []byte {
	permuted := make([]byte, 64)
	for i := range permuted {
		permuted[i] = substitution[a[8*(i%8)+i/8]]
	}
	var out []byte
	for i := 0; i < 64; i += 8 {
		var word uint64
		for bit := range 64 {
			if permuted[i+bit/8]>>(7-bit%8)&1 == 1 {
				word ^= matrix[bit]
			}
		}
		out = binary.BigEndian.AppendUint64(out, word)
	}
	return out
}

// roundConstant is C of the standard, from its highest byte on.
func roundConstant(i int) []byte {
	var c []byte
	for _, w := range backwardsWords(roundConstants[i]) {
		c = binary.BigEndian.AppendUint64(c, w)
	}
	return c
}

func backwardsWords(w words) words {
	slices.Reverse(w[:])
	return w
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

func backwards(a []byte) []byte {
	out := slices.Clone(a)
	slices.Reverse(out)
	return out
}
