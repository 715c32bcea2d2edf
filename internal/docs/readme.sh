#!/usr/bin/env bash
# Runs the README's examples as a newcomer would paste them: in a copy of the tree,
# against nodes started with the README's first command. Fails when one fails, or
# does not print what it should. The nodes meet in a folder of their own, so that
# they never join others of this machine; ports 7400 to 7403 must be free.
set -euo pipefail
cd "$(dirname "$0")/../.."

tree=$(mktemp -d)
nodes=()
cleanup() {
	local p
	for p in "${nodes[@]}"; do
		pkill -INT -P "$p" 2>/dev/null || true # go run's child, the node itself
	done
	for p in "${nodes[@]}"; do
		for _ in $(seq 150); do
			kill -0 "$p" 2>/dev/null || break
			sleep 0.2
		done
		pkill -KILL -P "$p" 2>/dev/null || true
		kill -KILL "$p" 2>/dev/null || true
		wait "$p" 2>/dev/null || true
	done
	rm -rf "$tree"
}
trap cleanup EXIT

GOENV=$(go env GOENV) GOCACHE=$(go env GOCACHE) GOMODCACHE=$(go env GOMODCACHE) GOPATH=$(go env GOPATH)
export GOENV GOCACHE GOMODCACHE GOPATH HOME="$tree/home"
unset XDG_CACHE_HOME WAYSTATION_ADDR
mkdir "$HOME"

git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - 2>/dev/null | tar -xf - -C "$tree"
cd "$tree"

block() { # NAME: the fenced block after its marker
	awk -v want="<!-- run: $1 -->" '
		$0 == want { on = 1; next }
		on && /^```/ { if (inside) exit; inside = 1; next }
		on && inside { print }' README.md
}

expect() { # NAME PATTERN...
	local name=$1 out
	shift
	echo "-- README: $name"
	block "$name" > "block-$name.sh"
	[ -s "block-$name.sh" ] || { echo "README has no block $name" >&2; exit 1; }
	if ! out=$(timeout 120 bash -euo pipefail "block-$name.sh" 2>&1 < /dev/null); then
		echo "$out"
		echo "the README's block $name failed" >&2
		exit 1
	fi
	echo "$out"
	for pattern in "$@"; do
		grep -Eq -- "$pattern" <<< "$out" || { echo "the README's block $name did not print /$pattern/" >&2; exit 1; }
	done
}

grep -qx 'go run ./node' README.md && grep -qx 'go test ./...' README.md ||
	{ echo "the README's two commands are gone" >&2; exit 1; }

# The copy is compiled here, without a limit: what is waited for below are nodes.
go run ./node version > /dev/null

start() { # LOG: one more node
	go run ./node > "$1" 2>&1 &
	nodes+=($!)
}

fail() { # WHAT
	tail -n 40 node*.log
	echo "$1" >&2
	exit 1
}

start node.log
for _ in $(seq 300); do
	curl -sf http://127.0.0.1:7401/readyz > /dev/null && break
	kill -0 "${nodes[0]}" 2>/dev/null || fail "the node ended"
	sleep 0.2
done
curl -sf http://127.0.0.1:7401/readyz > /dev/null || fail "the node is not ready"

expect curl '"sequence": *"1"' '"lease_token"' 'acme/api'
expect cli 'indexing acme/web #1' 'indexing acme/web #2' 'acme/web'
expect go 'durable as number 1' 'acme/go #1, attempt 1: hello'
expect python 'acme/py 1' "print\\('hello'\\)"

start node2.log
start node3.log
expect three 'durable copies *3'
expect kill '^acme/after 1$' 'up +127'
[ -d waystation-data-2 ] && [ -d waystation-data-3 ] || fail "the second and third node have no folders of their own"
echo "-- README: every block works as it stands"
