# Everything here runs with Go alone; the tools are pinned in internal/tools and
# built on first use. `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

include messages.mk

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 30s
# Packages with goroutines of their own: the race detector looks at these.
CONCURRENT := ./actors/... ./cluster/... ./storage/... ./client/... ./node/... ./messages/codec/... ./loadtest/...

# Whole clusters that live through something: in the plain form they take their
# time, under the race detector minutes each. TestThreeNodesBecomeACluster, the
# refusals and node/route's clusters are raced.
WHOLE := ^(TestThreeToOneAndBack|TestLostNodeIsReplaced|TestBackFromALongAbsence|TestNodesOfOneMachine|TestAllStopped|TestRemovedNodeComesBack|TestVerifyAgrees|TestFlippedBitIsRebuilt|TestRestoreHasEverything)$$

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: build run test race model vet lint fuzz bench planted loadtest chaos powerloss chaos-short ci
build: ## Build bin/waystation
	go build -trimpath -ldflags "-X github.com/waystation/waystation/node/config.Version=$(VERSION)" -o bin/waystation ./node

run: ## Start a node in ./waystation-data
	go run ./node

test: ## The README's test command
	go test ./...

race: ## The packages with goroutines, under the race detector
	go test -race -short -timeout 30m -skip '$(WHOLE)' $(CONCURRENT)

model: ## The replicated core against its model: SEEDS seeds from FIRST on
	go test ./actors/repository -count=1 -run '^TestMachineAgainstModel$$' -timeout 6h -model.seeds $(or $(SEEDS),200) -model.first $(or $(FIRST),0)

vet: ## go vet
	go vet ./...

lint: ## golangci-lint as .golangci.yml says, and the .proto files
	$(LINT) run ./...
	$(MAKE) lint-proto

fuzz: ## Every fuzz target for FUZZTIME each
	@go list ./... | while read -r p; do \
		for f in $$(go test -list '^Fuzz' "$$p" | grep '^Fuzz'); do \
			echo "== $$p $$f" && go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) "$$p" || exit 1; \
		done; \
	done

bench: ## Every benchmark, once
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: sim sim-time sim-planted
MINUTES ?= 5
EVENTS  ?= 8000

sim: ## Whole clusters from SEEDS seeds on all cores: new ones, or those from FIRST on; FLIPS=1 flips bits, too; POLICIES=1 has groups block and park, redrives and discards
	go test ./internal/sim -run '^TestSeeds$$' -v -timeout 0 -seeds $(or $(SEEDS),1000) -first $(or $(FIRST),0) -events $(EVENTS) $(if $(FLIPS),-flips) $(if $(POLICIES),-policies)

sim-time: ## The same with new seeds for MINUTES
	go test ./internal/sim -run '^TestSeeds$$' -v -timeout 0 -for $(MINUTES)m -events $(EVENTS) $(if $(FLIPS),-flips) $(if $(POLICIES),-policies)

sim-planted: ## Rules of PROTOCOL.md broken on purpose: how the simulator finds each; KEEP=300 writes the scripts anew
	go test -tags planted ./internal/sim -run '^TestPlanted$$' -v -timeout 0 -keep $(or $(KEEP),0)

planted: ## Break each promise on purpose, in a copy, and see that a test notices
	go run ./internal/planted

loadtest: ## The load test's default: real code through one node of its own
	go run ./loadtest

chaos: ## Kill, pause and cut off one of three nodes after the other, under load, and verify every packet
	go run ./loadtest --nodes 3 --duration 60s --resend 0.05 --fault kill:every=10s,pause:every=7s,partition:every=13s

powerloss: ## Cut three nodes' power under load, and verify every packet
	go run ./loadtest --nodes 3 --duration 60s --resend 0.05 --fault powerloss:every=15s

.PHONY: workers-die isolation backlog batches
workers-die: ## Half of the workers killed every 3 s: never two valid leases, the speed back within one
	go run ./loadtest --scenario workers-die

isolation: ## A stuck, a failing and a hot repository among 1,000,000: what the others make of it; HTML=isolation.html draws it
	go run ./loadtest --scenario isolation $(if $(HTML),--html $(HTML))

backlog: ## 10,000,000 packets in 1,000,000 lanes, then workers come; takes minutes and about 3 GB of disk
	go run ./loadtest --scenario backlog

batches: ## docs/batches.svg anew: settled/s over lane depth, adaptive and fixed batches
	bash internal/docs/batches.sh

.PHONY: operations
operations: ## docs/operations.md's commands on four machines: network namespaces, where there are rights
	bash internal/docs/operations.sh

chaos-short: ## All of it at once, for half a minute
	go run ./loadtest --nodes 3 --warmup 1s --duration 14s --rate 2000 --resend 0.05 \
		--fault kill:every=4s,pause:every=5s,partition:every=6s,for=2s,powerloss:every=8s

ci: ## What .ci/run runs
	bash .ci/run
