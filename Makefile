# sallyport: each target works on a fresh clone. `make demo` and `make test` are all a newcomer needs.
SHELL := /bin/bash
GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZTIME ?= 30s
BENCHTIME ?= 1s
# What a tunnel promises, tested over a shared connection as well.
SHARED := ^Test(Abandoned|Bulk|Cancel|Close|Control|Cut|Dead|Dial|Exec|Fault|Forward|Half|HTTP|Join|Keyboard|Listen|Max|Needs|OneLogin|Open|Password|Proxy|Push|Reconnect|Refus|Remote|Restarted|Reset|Silent|Timeout|TraceOf|Two|Unanswered|Unknown|Unused|When|Window)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: build test demo conformance matrix wine dist dist-check hosts lint fuzz bench cover parts clean

build:
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/sallyport ./cmd/sallyport

# Everything whose parts are there; `parts` installs what it can and names the rest. With CI=true a
# test that would be skipped fails instead.
test: parts
	$(GO) test -race -timeout 30m ./...
	SALLYPORT_TEST_SHARED=1 $(GO) test -race -timeout 10m -run '$(SHARED)' ./sshtunnel

# The main job, shown: two bastions, an authorization server and an MCP server, all in one process,
# and the real proxy between them and an MCP host.
demo:
	@$(GO) run ./cmd/demo

# The MCP project's own client scenarios, the host speaking either protocol era; PEER=1 runs mcp-remote
# beside it. REVISIONS, ONLY and JOBS as in run.sh, which needs npm, curl and jq. Takes some ten minutes.
conformance: build
	@status=0; for era in legacy auto; do for profile in sallyport $(if $(PEER),mcp-remote); do \
		SALLYPORT=$(CURDIR)/bin/sallyport STDIO_ERA=$$era cmd/sallyport/testdata/conformance/run.sh \
			cmd/sallyport/testdata/conformance/profiles/$$profile || [ $$profile != sallyport ] || status=1; \
	done; done; exit $$status

parts:
	@.ci/install-parts

# Through which SSH servers and single algorithms the real ssh and we get. SALLYPORT_OPENSSH names
# directories with other versions of OpenSSH (sbin/sshd, bin/ssh), separated by colons.
matrix: parts
	@set -o pipefail; $(GO) test -count 1 -timeout 30m -v -run TestMatrix ./sshtunnel | { grep -vE "^ *(=== |--- PASS|time=)" || true; }

# The program for Windows, whose processes share one connection, under Wine 9 or later, against this
# machine's sshd: make wine WINE=wine. What WINE must be, cmd/sallyport/internal/stories/wine says.
wine:
	@test -n "$(WINE)" || { echo "make wine: WINE must name a command that runs Wine 9 or later, as in make wine WINE=wine"; exit 2; }
	WINE="$(WINE)" $(GO) test -count 1 -timeout 15m -v ./cmd/sallyport/internal/stories/wine

# Hosts that people use, started for real, with a stand-in for their model and no network: a sign-in in
# each, and the entry that install writes for each, which they read and start: make hosts
# HOSTS=DIR, where DIR/node_modules/.bin has their programs (npm install --prefix DIR @openai/codex ...).
hosts:
	@test -d "$(HOSTS)/node_modules" || { echo "make hosts: HOSTS must name a folder into which npm has installed hosts"; exit 2; }
	SALLYPORT_TEST_HOSTS="$(HOSTS)" $(GO) test -count 1 -timeout 15m -v -run 'TestRealHosts|TestInspector' ./cmd/sallyport/internal/stories/signinhosts
	SALLYPORT_TEST_HOSTS="$(HOSTS)" $(GO) test -count 1 -timeout 15m -v ./cmd/sallyport/internal/stories/clients

# What people install, in the folder dist: see cmd/dist. URL is where it will be downloaded from.
dist:
	$(GO) run ./cmd/dist $(if $(URL),-url $(URL))

# Makes a release for this machine twice, compares both, and installs the packages. Needs root and npm.
dist-check:
	SALLYPORT_TEST_DIST=1 $(GO) test -count 1 -timeout 20m -v -run TestRelease ./cmd/dist

# govulncheck needs its database, which is not reachable everywhere.
lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@out=$$($(GO) run $(GOVULNCHECK) ./... 2>&1); status=$$?; \
	if grep -qE 'fetching vulnerabilities|no such host|connection refused|dial tcp|Forbidden|403' <<<"$$out"; then \
		echo "govulncheck: skipped, its database is not reachable from here"; \
	else echo "$$out"; exit $$status; fi

# One target at a time is all that go test takes.
fuzz:
	@set -e; for pkg in $$($(GO) list ./sshtunnel/... ./oauth/... ./relay/...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; done

# Packages one after the other, not to disturb each other. cmd/sallyport/internal/bench prints the
# table against the real ssh, that of the shared connection, and those against mcp-oauth2-proxy and
# mcp-remote. To make it quick:
# SALLYPORT_BENCH_BYTES=67108864 SALLYPORT_BENCH_ROUNDS=1, or a part alone: SALLYPORT_BENCH_ONLY="via, 50 ms".
bench: parts
	$(GO) test -p 1 -timeout 60m -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

cover: parts
	$(GO) test -coverprofile coverage.out ./... && $(GO) tool cover -func coverage.out | tail -1

clean:
	rm -rf bin dist coverage.out
