// Package measure says what programs cost: time, memory, disk and network, as
// the kernel counts them. It is for the benchmarks and works on Linux alone.
package measure
