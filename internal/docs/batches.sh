#!/usr/bin/env bash
# Settled/s over lane depth, for the adaptive batch and for fixed ones: docs/batches.svg. About two minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/loadtest" ./loadtest
for batch in 0 1 8 128; do
	for depth in 1 10 100 1000; do
		# A goal of the scenario that is missed is no reason not to draw.
		"$dir/loadtest" --scenario "backlog:depth=$depth,small=0.1" --repos $((60000 / depth)) --batch "$batch" \
			--json "$dir/$batch-$depth.json" >/dev/null 2>&1 || [ $? = 1 ]
	done
done
go run ./loadtest/chart "$dir" >docs/batches.svg
