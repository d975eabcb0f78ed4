# SPDX-License-Identifier: Apache-2.0
#
# make help shows what there is. Each target installs what it needs first (as root, on Debian).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := build

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
GO       := scripts/with-go go
MODULE   := github.com/sallyport-mfa/sallyport
GOBUILD   = $(GO) build -trimpath -ldflags '-s -w -X $(MODULE)/internal/version.number=$(VERSION)'
FUZZTIME ?= 20s
BENCHTIME ?= 1s
TESTFLAGS ?=
# Of make soak: how often the verifier is killed, how long all are at work at once.
KILLS     ?= 100
BUSY      ?= 60s
# How often a test that failed is run again, alone. Its failure is printed all the
# same, under "flaky"; one that fails each time fails the run, and so do more than five.
RERUNS    ?= 0

# Installation (make install DESTDIR=... PREFIX=...).
DESTDIR ?=
PREFIX  ?= /usr
MULTIARCH := $(shell gcc -print-multiarch 2>/dev/null)
PAMDIR  ?= $(firstword $(wildcard /usr/lib/$(MULTIARCH)/security /lib/$(MULTIARCH)/security /usr/lib64/security /lib64/security) $(PREFIX)/lib/security)
BINDIR  ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBDIR  ?= $(PREFIX)/lib
UNITDIR ?= $(LIBDIR)/systemd/system
DOCDIR  ?= $(PREFIX)/share/doc/sallyport

# The module: C11, nothing exported but the PAM entry points, hardened as Debian hardens.
CC       := gcc
PAM_SRC  := $(wildcard pam/*.c)
PAM_HDR  := $(wildcard pam/*.h) pam/pam_sallyport.map
PAM_CFLAGS  := -std=gnu11 -O2 -g -fPIC -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection \
	-D_FORTIFY_SOURCE=2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes \
	-Wvla -Werror
PAM_LDFLAGS := -shared -Wl,-z,relro,-z,now,-z,noexecstack,-z,defs -Wl,--as-needed \
	-Wl,--version-script=pam/pam_sallyport.map

PROGRAMS := sallyport-authd sallyport-breakglass sallyport-verifier sallyport-sshgw sallyport-sshgw-pam sallyport
HAVE     := $(foreach p,$(PROGRAMS),$(if $(wildcard cmd/$(p)/*.go),$(p)))

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: deps
deps: ## install what building, testing and the demo need (root, Debian)
	@scripts/deps

.PHONY: deps-build deps-test deps-lint deps-demo
deps-build: ; @scripts/deps build
deps-test:  ; @scripts/deps build test
deps-lint:  ; @scripts/deps build lint
deps-demo:  ; @scripts/deps build demo

.PHONY: build
build: deps-build ## build the programs and the PAM module into bin/
	@$(MAKE) $(if $(PAM_SRC),bin/pam_sallyport.so) $(addprefix program-,$(HAVE))

bin/pam_sallyport.so: $(PAM_SRC) $(PAM_HDR) Makefile
	@mkdir -p bin
	@echo "build: $@"
	@$(CC) $(PAM_CFLAGS) -DSALLYPORT_VERSION='"$(VERSION)"' -o $@ $(PAM_SRC) $(PAM_LDFLAGS) -lpam

# Go knows best what is up to date. Only the command that people type (doctor) and the gateway's
# helper for passwords may link C: libpam.
.PHONY: $(addprefix program-,$(PROGRAMS))
program-sallyport-authd program-sallyport-breakglass program-sallyport-verifier program-sallyport-sshgw: program-%:
	@echo "build: bin/$*"
	@CGO_ENABLED=0 $(GOBUILD) -o bin/$* ./cmd/$*
program-sallyport program-sallyport-sshgw-pam: program-%:
	@echo "build: bin/$*"
	@CGO_ENABLED=1 $(GOBUILD) -o bin/$* ./cmd/$*

.PHONY: test
test: deps-test ## everything but benchmarks: format, vet, unit, C, JavaScript, integration in Docker
	@$(MAKE) check-docker check-format build
	@echo "test: vet"; $(GO) vet ./...
	@$(MAKE) test-unit test-replay test-c test-js test-selinux test-units test-integration

# Prints what fails, and runs it again as RERUNS allows.
GOTESTSUM = scripts/with-go build/tools/gotestsum --format pkgname --format-hide-empty-pkg \
	--rerun-fails=$(RERUNS) --rerun-fails-max-failures=5 --rerun-fails-run-root-test

.PHONY: test-unit
test-unit: build/tools/gotestsum
	@echo "test: unit, under the race detector"
	@CGO_ENABLED=1 $(GOTESTSUM) --packages ./... -- -race -timeout 30m $(TESTFLAGS)

# Under the race detector it makes fewer rounds.
.PHONY: test-replay
test-replay:
	@echo "test: 500 rounds of replay"; $(GO) test -run '^TestReplay$$' ./test/stress

.PHONY: soak
soak: deps-test ## the verifier killed 100 times, and a minute of administrators, scripts and logins at once
	@$(GO) test -count=1 -timeout 60m -v ./test/stress -rounds 500 -kills $(KILLS) -busy $(BUSY)

.PHONY: check-docker
check-docker:
	@command -v docker >/dev/null || { echo "test: docker is not installed; the integration tests need it (make deps)" >&2; exit 1; }
	@timeout 20 docker info >/dev/null 2>&1 || { echo "test: the Docker daemon is not running or not yours to use; start it (systemctl start docker) and run again" >&2; exit 1; }

.PHONY: check-format
check-format:
	@echo "test: format"
	@bad=$$(find . \( -path ./build -o -path ./bin \) -prune -o -name '*.go' -print0 | xargs -0 scripts/with-go gofmt -l); \
	[ -z "$$bad" ] || { echo "test: not formatted by gofmt:" $$bad >&2; exit 1; }

.PHONY: test-c
test-c: $(if $(wildcard pam/test/Makefile),test-c-module)
.PHONY: test-c-module
test-c-module:
	@echo "test: C under sanitizers"
	@$(MAKE) -C pam/test test

# Node 18 has WebCrypto, and not as a global; later versions ignore the flag.
.PHONY: test-js
test-js: ## the modules of the pages, without a browser
	@echo "test: JavaScript"
	@command -v node >/dev/null || { echo "test: node is not installed (make deps)" >&2; exit 1; }
	@mkdir -p build
	@NODE_OPTIONS=--experimental-global-webcrypto node --test $$(find verifier -path '*/js/*' -name '*.test.js' | sort) >build/test-js.log || { cat build/test-js.log >&2; exit 1; }

.PHONY: test-selinux
test-selinux:
	@echo "test: SELinux policy"
	@$(MAKE) -C contrib/selinux OUT=../../build

.PHONY: test-units
test-units:
	@echo "test: systemd units"
	@scripts/check-units

.PHONY: test-integration
test-integration: $(if $(wildcard test/integration/*.go),run-integration)
.PHONY: run-integration
run-integration: build/tools/gotestsum
	@echo "test: integration"
	@$(GOTESTSUM) --packages ./test/integration/... -- -tags integration -count=1 -timeout 40m $(TESTFLAGS)

.PHONY: screenshots
screenshots: deps-test build ## pictures of the web pages into docs/images, of a site made for them
	@SALLYPORT_SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -tags integration -count=1 -timeout 20m -run '^Test(Screenshots|Enrolment)$$' ./test/integration

.PHONY: bench
bench: deps-build build ## benchmarks: ratios against a floor measured in the same run
	@$(GO) test -p 1 -count=1 -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) \
		$$(grep -rlE --include='*_test.go' --exclude-dir=build '^func Benchmark' . | xargs -n 1 dirname | sort -u)

.PHONY: fuzz
fuzz: deps-test ## each fuzz target for FUZZTIME (20s)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

.PHONY: lint
lint: deps-lint build/tools/golangci-lint ## golangci-lint, shellcheck, govulncheck, types of the JavaScript
	@scripts/lint

build/tools/golangci-lint: tools/go.mod tools/go.sum
	@echo "lint: building the tools of tools/go.mod (minutes, once)"
	@mkdir -p build/tools
	@cd tools && GOFLAGS=-trimpath ../scripts/with-go go build -o ../build/tools/ tool
	@touch build/tools/*

build/tools/gotestsum: tools/go.mod tools/go.sum
	@mkdir -p build/tools
	@cd tools && GOFLAGS=-trimpath ../scripts/with-go go build -o ../build/tools/ gotest.tools/gotestsum
	@touch $@

.PHONY: demo
demo: deps-demo build ## the whole of it, live on this machine, without touching its own set-up (root)
	@scripts/demo start

.PHONY: demo-stop
demo-stop: ## end the demo and remove what it made
	@scripts/demo stop

.PHONY: install
install: ## install programs, module, units (DESTDIR, PREFIX); never touches /etc/pam.d
	@for f in $(addprefix bin/,$(PROGRAMS)) bin/pam_sallyport.so; do \
		[ -e "$$f" ] || { echo "install: $$f is missing; run 'make build' first" >&2; exit 1; }; done
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(PAMDIR) $(DESTDIR)$(UNITDIR) \
		$(DESTDIR)$(LIBDIR)/sysusers.d $(DESTDIR)$(LIBDIR)/tmpfiles.d $(DESTDIR)$(DOCDIR)
	install -m 0755 bin/sallyport $(DESTDIR)$(BINDIR)/
	install -m 0755 bin/sallyport-authd bin/sallyport-breakglass bin/sallyport-verifier bin/sallyport-sshgw \
		bin/sallyport-sshgw-pam $(DESTDIR)$(SBINDIR)/
	install -m 0644 bin/pam_sallyport.so $(DESTDIR)$(PAMDIR)/
	for unit in packaging/systemd/*.service packaging/systemd/*.socket packaging/systemd/*.timer; do \
		sed 's,/usr/sbin/,$(SBINDIR)/,; s,/usr/bin/sallyport,$(BINDIR)/sallyport,' "$$unit" > $(DESTDIR)$(UNITDIR)/"$${unit##*/}"; \
		chmod 0644 $(DESTDIR)$(UNITDIR)/"$${unit##*/}"; done
	install -m 0644 packaging/systemd/sallyport.sysusers $(DESTDIR)$(LIBDIR)/sysusers.d/sallyport.conf
	install -m 0644 packaging/systemd/sallyport.tmpfiles $(DESTDIR)$(LIBDIR)/tmpfiles.d/sallyport.conf
	cp -r README.md LICENSE docs $(DESTDIR)$(DOCDIR)/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/sallyport completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sallyport
	bin/sallyport completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_sallyport
	bin/sallyport completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/sallyport.fish
	bin/sallyport-sshgw completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sallyport-sshgw
	bin/sallyport-sshgw completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_sallyport-sshgw
	bin/sallyport-sshgw completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/sallyport-sshgw.fish
	@echo "install: done; docs/how-to/protect-sshd.md says how to switch it on without locking yourself out"

.PHONY: clean
clean: ## remove what make made, but for the Go that deps fetched
	rm -rf bin build/tools
