// Package scale shows how time and memory of the stages grow with the number of
// images: it runs ferry-discover, ferry-select and ferry-fetch --plan over
// synthetic sources of growing size, and fits the exponents. It works on Linux
// alone, as package measure does.
package scale
