# ferry: two commands matter to a newcomer, "make demo" and "make test".
SHELL := bash
.SHELLFLAGS := -Eeuo pipefail -c
.DEFAULT_GOAL := build

VERSION ?= $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo devel)
STAGES := discover select fetch pack unpack publish
BINARIES := $(STAGES:%=bin/ferry-%)
PREFIX ?= /usr/local
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
# -trimpath and no cgo: the same commit gives the same static binary anywhere. For tests and checks, too, or a machine that
# has compiled nothing yet would compile everything twice.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath $(GOFLAGS)
GO_BUILD := go build -buildvcs=false -ldflags '-s -w -X ferry/pkg/stage.version=$(VERSION:v%=%)'

.PHONY: build demo test check bench soak install clean generate reliability
# The binaries are always handed to the compiler, which knows best what is stale.
.PHONY: $(BINARIES)

build: $(BINARIES)

$(BINARIES): bin/ferry-%:
	@$(GO_BUILD) -o $@ ./cmd/$*

# The main job against embedded registries; leaves its documents in ./demo.
demo: build
	@go run ./e2e/cmd/demo run -- scripts/demo

# Everything that proves ferry right, the real binaries included. "make check" has vet look at all of it: the part of vet that
# go test runs by itself would look at every dependency a second time.
test: build
	go test -vet=off -timeout 25m ./... ./e2e/...

# What CI asks of every commit besides the tests.
check:
	@scripts/check

# Writes schemas and examples from the Go types, and which test proves which rule.
generate:
	go run ./e2e/cmd/generate

# Which failures were tried, and how that ended: docs/reliability.md, from a run of all tests.
reliability: build
	@mkdir -p bin
	status=0; go test -timeout 20m -json ./... ./e2e/... > bin/tests.json || status=$$?; \
	go run ./e2e/cmd/reliability < bin/tests.json && exit $$status

# Pulls and pushes through faults and kills for SECONDS (600), and compares what they end with. A loss names its seed:
# SEED=n LOOPS=1 make soak repeats it.
soak: build
	@LOG=e2e/reliability/soak.txt go run ./e2e/cmd/soak bin

# What ferry costs, as ratios to what the least and other tools cost in the same run: docs/performance.md. Needs Linux and
# 12 GB of disk (BENCH=--dir=...), and takes its time. micro.txt is for benchstat: COUNT=10 make bench, twice.
RESULTS := bin/bench
bench: build
	@mkdir -p $(RESULTS)
	go test -run '^$$' -bench . -benchmem -count $(or $(COUNT),1) ./pkg/... | tee $(RESULTS)/micro.txt
	@status=0; \
	go run ./e2e/cmd/bench chain --json $(RESULTS)/chain.json $(BENCH) || status=1; \
	go run ./e2e/cmd/bench latency --json $(RESULTS)/latency.json $(BENCH) || status=1; \
	go run ./e2e/cmd/bench scale --json $(RESULTS)/scale.json || status=1; \
	go run ./e2e/cmd/bench report $(RESULTS)/chain.json $(RESULTS)/latency.json $(RESULTS)/scale.json && exit $$status

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin
	install -m 755 scripts/pull $(DESTDIR)$(PREFIX)/bin/ferry-pull
	install -m 755 scripts/push $(DESTDIR)$(PREFIX)/bin/ferry-push
	install -m 755 scripts/mirror-modules $(DESTDIR)$(PREFIX)/bin/ferry-mirror-modules
	install -d $(DESTDIR)$(PREFIX)/share/ferry
	install -m 644 scripts/flags.sh $(DESTDIR)$(PREFIX)/share/ferry
	for stage in $(STAGES); do bin/ferry-$$stage --man > $(DESTDIR)$(PREFIX)/share/man/man1/ferry-$$stage.1; done
	for script in pull push mirror-modules; do scripts/$$script --man > $(DESTDIR)$(PREFIX)/share/man/man1/ferry-$$script.1; done

clean:
	rm -rf bin demo
