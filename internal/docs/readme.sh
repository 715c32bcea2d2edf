#!/usr/bin/env bash
# Runs the README's examples as a newcomer would paste them: in a copy of the tree,
# against a node started with the README's first command. Fails when one fails, or
# does not print what it should.
set -euo pipefail
cd "$(dirname "$0")/../.."

tree=$(mktemp -d)
node=
cleanup() {
	if [ -n "$node" ]; then
		pkill -INT -P "$node" 2>/dev/null || true
		kill -INT "$node" 2>/dev/null || true
		wait "$node" 2>/dev/null || true
	fi
	rm -rf "$tree"
}
trap cleanup EXIT

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
go run ./node > node.log 2>&1 &
node=$!
for _ in $(seq 300); do
	curl -sf http://127.0.0.1:7401/readyz > /dev/null && break
	kill -0 "$node" 2>/dev/null || { cat node.log; echo "the node ended" >&2; exit 1; }
	sleep 0.2
done
curl -sf http://127.0.0.1:7401/readyz > /dev/null || { cat node.log; echo "the node is not ready" >&2; exit 1; }

expect curl '"sequence": *"1"' '"lease_token"' 'acme/api'
expect cli 'indexing acme/web #1' 'indexing acme/web #2' 'acme/web'
expect go 'durable as number 1' 'acme/go #1, attempt 1: hello'
expect python 'acme/py 1' "print\\('hello'\\)"
echo "-- README: every block works as it stands"
