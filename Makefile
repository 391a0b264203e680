# turnout: everything a person or CI calls. `make help` lists it.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BIN     := bin/turnout
SOAK    ?= 60s
PKGS    ?= ./...
TESTFLAGS ?=
FUZZ    ?= 20s
# Every fuzz target there is, as PACKAGE:NAME.
FUZZERS  = $(shell grep -rno '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' . | sed -E 's,/[^/]*:[0-9]+:func ,:,' | sort)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@latest

.DEFAULT_GOAL := help
.PHONY: help build demo run test check fuzz bench bench-quick soak cover tools clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/turnout, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o $(BIN) ./cmd/turnout

demo: build ## two toy servers, a door, live traffic, 12 swaps: see it work in ten seconds
	./$(BIN) demo

run: build ## the same, and it stays up with a config to play with
	./$(BIN) demo --keep

test: tools ## all tests with the race detector; installs redis, postgresql, haproxy, nginx, chromium where it may
	$(GO) vet ./...
	$(GO) test -race -timeout 15m $(TESTFLAGS) $(PKGS)

check: ## format, vet, static analysis, known vulnerabilities (where reachable), race tests
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-ed:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./cmd/turnout ./admin/client ./proxy/loop
	@if $(GO) run $(STATICCHECK) -version >/dev/null 2>&1; then $(GO) run $(STATICCHECK) ./...; else echo 'NOT CHECKED: staticcheck cannot be had here'; fi
	@if $(GO) run $(GOVULNCHECK) -version >/dev/null 2>&1; then $(GO) run $(GOVULNCHECK) ./... || echo 'govulncheck: see above (a database that cannot be reached is not a finding)'; else echo 'NOT CHECKED: govulncheck cannot be had here'; fi
	$(GO) test -race -timeout 15m ./...

fuzz: ## each fuzz target for FUZZ=20s
	@for f in $(FUZZERS); do echo "== $$f"; $(GO) test -run '^$$' -fuzz "^$${f##*:}$$" -fuzztime $(FUZZ) $${f%%:*} || exit 1; done

soak: tools ## property tests and end-to-end tests for SOAK=60s each, with the race detector
	TURNOUT_SOAK=$(SOAK) $(GO) test -race -count=1 -timeout 60m ./proxy ./proxy/stream ./e2e

bench: ## side by side with HAProxy and nginx, about 10 minutes; use a quiet machine
	$(GO) run ./bench run

bench-quick: ## the same in about 2 minutes
	$(GO) run ./bench quick

cover: ## coverage of all packages, as coverage.html
	$(GO) test -coverpkg=./... -coverprofile=coverage.out ./...
	$(GO) tool cover -html=coverage.out -o coverage.html
	@$(GO) tool cover -func=coverage.out | tail -1

tools: ## install the real servers that tests run against
	@./scripts/install-tools

clean: ## remove what was built
	rm -rf bin coverage.out coverage.html
