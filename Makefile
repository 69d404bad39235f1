# What people, CI and later maintainers type. `make` alone lists it.
#
# Tools and servers that tests need are built once into a cache outside the
# checkout (S3FENCE_CACHE, else ~/.cache/s3fence); see scripts/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
T ?= 60s
SEED ?= 1

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z0-9-]*:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/s3fence: one static binary
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/s3fence ./cmd/proxy
	@echo "build: bin/s3fence $(VERSION), $$(du -h bin/s3fence | cut -f1)"

.PHONY: dev
dev: build ## everything in one process, nothing else installed (127.0.0.1:9000)
	@exec bin/s3fence dev

.PHONY: test
test: ## check and e2e; installs or starts what they need
	@scripts/test.sh check e2e

.PHONY: check
check: ## format, vet, lint, arrows, tidy and all tests but e2e, with the race detector
	@scripts/test.sh check

.PHONY: e2e
e2e: ## black box: real programs, real PostgreSQL, real stores, real clients
	@scripts/test.sh e2e

.PHONY: model
model: ## the protocol in Spin: all interleavings, and mutants that must fail (BOUNDS=large: 6 minutes of a core, 9 GB)
	@scripts/prerequisites.sh
	@scripts/model.sh

.PHONY: parity
parity: build ## suites of others, straight at a store and through the proxy, every test: over an hour
	@scripts/test.sh parity

.PHONY: mutants
mutants: ## plants a fault at a time, each of which a test must notice (M="stale-by-one …": those alone)
	@M='$(M)' scripts/test.sh mutants

.PHONY: fuzz
fuzz: ## every fuzz target for T=60s each (F="FuzzServe …": those alone)
	@scripts/fuzz.sh $(T) $(F)

.PHONY: corpus
corpus: build ## record anew what clients and stores say: writes internal/corpus/testdata (15 minutes)
	@go build -o bin/with ./internal/pgtest/with
	@S3FENCE_TEST_BIN=$$PWD/bin bin/with go test -tags record -v -count=1 -timeout 60m -run '^TestRecordCorpus$$' ./e2e/

.PHONY: sim
sim: ## SEEDS=10000 simulations from FROM=1 on, with a line for each 1000 (SEED=123: that one alone)
	@go test -c -o bin/sim ./internal/sim
	@cd internal/sim && SIM_SEEDS=$(or $(SEEDS),10000) SIM_FROM=$(or $(FROM),1) SIM_SEED=$(SEED) ../../bin/sim -test.run '^TestSeeds$$' -test.v -test.timeout 12h | grep --line-buffered -v '^=== '

.PHONY: sizes
sizes: build ## the largest bodies, lists and mirrors in every form, with their real sizes, 10 minutes
	@go build -o bin/with ./internal/pgtest/with
	@S3FENCE_TEST_SIZES=all S3FENCE_TEST_BIN=$$PWD/bin bin/with go test -v -count=1 -timeout 60m -run '^TestEdges(FiveGiB|OneByteTooMany|TenThousandParts|HundredThousandKeys|Sync)$$' ./e2e/

.PHONY: chaos
chaos: build ## processes stopped, killed and cut off for T=60s (SEED=7), then once more without the fence; a page in bin/
	@go build -race -o bin/s3fence-race ./cmd/proxy
	@scripts/minio.sh >/dev/null
	@S3FENCE_TEST_BIN=$$PWD/bin go test -v -count=1 -timeout 24h -run '^TestChaos$$' ./e2e/chaos -for $(T) -seed $(SEED) -page $$PWD/bin/chaos.html | grep -v '^=== '

.PHONY: clients
clients: ## every client, everywhere: writes docs/clients-matrix.md anew (minutes)
	@S3FENCE_TEST_CLIENTS=all go test -count=1 -timeout 40m -run '^TestClientMatrix$$' ./e2e/ -update
	@go test -count=1 -run '^TestClientMatrixPage$$' ./e2e/ -update

.PHONY: bench
bench: build ## what the proxy costs: direct and proxied in turn, minutes (BENCH=-quick: one)
	@go test -c -tags bench -o bin/bench ./e2e/bench && bin/bench -test.timeout 15m -test.skip '^TestFlood$$' $(BENCH)

.PHONY: flood
flood: build ## what a flood of bad requests does to good ones, a minute (FLOOD='-rate 5000')
	@go test -c -tags bench -o bin/bench ./e2e/bench && bin/bench -test.timeout 15m -test.run '^TestFlood$$' -test.v $(FLOOD)

.PHONY: soak
soak: build ## two proxies for T=1h and OPS=1000000 operations at bounded memory, nothing lost (SOAK='-minio')
	@go test -c -tags soak -o bin/soak ./e2e/soak && cd e2e/soak && ../../bin/soak -test.timeout 24h -test.v -for $(if $(filter command,$(origin T)),$(T),1h) -ops $(or $(OPS),1000000) $(SOAK)
