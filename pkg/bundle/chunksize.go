package bundle

import (
	"fmt"
	"math/big"
	"regexp"

	"ferry/pkg/fault"
)

var chunkSizeRE = regexp.MustCompile(`^([0-9]{1,20})(\.[0-9]{1,20})?([KMGT]?i?B)?$`)

// ParseChunkSize reads the largest size of a chunk and returns it in bytes; 0
// means no chunks. A bare whole number counts units of 10^9 bytes (S6.6.1);
// else a unit follows: B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB
// (powers of 1024), with decimals as in 4.7GB, rounded down to whole bytes.
// Kinds: fault.Usage.
func ParseChunkSize(s string) (int64, error) {
	size, err := parseChunkSize(s)
	if err != nil {
		return 0, fault.New(fault.Usage, fmt.Sprintf("chunk size %.40q", s), err).
			Hint("give a size such as 4GiB, 4.7GB or 650MiB; a bare number counts GB; 0 means no chunks")
	}
	return size, nil
}

// ChunkSize is the largest size of a chunk in bytes as a flag's value; 0 means
// no chunks.
type ChunkSize int64

// UnmarshalText reads it as [ParseChunkSize] does.
func (c *ChunkSize) UnmarshalText(text []byte) error {
	n, err := ParseChunkSize(string(text))
	*c = ChunkSize(n)
	return err
}

func parseChunkSize(s string) (int64, error) {
	m := chunkSizeRE.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("not a size")
	}
	whole, decimals, unit := m[1], m[2], m[3]
	if unit == "" && decimals != "" {
		return 0, fmt.Errorf("a size with decimals needs a unit")
	}
	factor, ok := unitBytes(unit)
	if !ok {
		return 0, fmt.Errorf("unknown unit %s", unit)
	}
	value, ok := new(big.Rat).SetString(whole + decimals)
	if !ok {
		return 0, fmt.Errorf("not a number")
	}
	value.Mul(value, new(big.Rat).SetInt64(factor))
	size := new(big.Int).Quo(value.Num(), value.Denom())
	switch {
	case !size.IsInt64():
		return 0, fmt.Errorf("too large")
	case size.Sign() == 0 && value.Sign() != 0:
		return 0, fmt.Errorf("less than one byte")
	}
	return size.Int64(), nil
}

func unitBytes(unit string) (int64, bool) {
	switch unit {
	case "B":
		return 1, true
	case "KB":
		return 1e3, true
	case "MB":
		return 1e6, true
	case "GB", "":
		return 1e9, true
	case "TB":
		return 1e12, true
	case "KiB":
		return 1 << 10, true
	case "MiB":
		return 1 << 20, true
	case "GiB":
		return 1 << 30, true
	case "TiB":
		return 1 << 40, true
	}
	return 0, false
}
