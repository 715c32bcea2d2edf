# Targets of messages/: included by the Makefile, and usable alone with
# `make -f messages.mk generate`. The tools are pinned in internal/tools and
# built by the go command on first use; nothing has to be installed.
BUF  := go tool -modfile=internal/tools/buf/go.mod buf
LINT := go tool -modfile=internal/tools/lint/go.mod golangci-lint

.PHONY: generate generate-check lint-proto

generate: ## Generate the Go code of messages/ with the pinned buf and plugins
	$(BUF) generate

generate-check: ## Fail when the committed generated code is not what generate gives
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(BUF) generate -o "$$tmp" && \
	(cd messages && find . -name '*.pb.go' | LC_ALL=C sort) > "$$tmp/committed" && \
	(cd "$$tmp/messages" && find . -name '*.pb.go' | LC_ALL=C sort) > "$$tmp/generated" && \
	diff -u "$$tmp/committed" "$$tmp/generated" && \
	for f in $$(cat "$$tmp/generated"); do \
		diff -u "messages/$$f" "$$tmp/messages/$$f" || exit 1; \
	done || { echo "generated code is stale: run 'make generate' and commit" >&2; exit 1; }

lint-proto: ## Lint the .proto files and their formatting
	$(BUF) lint
	$(BUF) format --diff --exit-code
