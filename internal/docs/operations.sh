#!/usr/bin/env bash
# Runs the blocks of docs/operations.md as an operator would paste them, on four
# machines: network namespaces joined by a bridge, in a network of their own that
# ends with this script. Where there are no rights to make one, it says so and ends
# well: everything else about clusters is tested on loopback.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" != inside ]; then
	user=()
	[ "$(id -u)" = 0 ] || user=(-r)
	for command in ip unshare nsenter openssl; do
		command -v "$command" > /dev/null || { echo "-- operations.md: NOT RUN: there is no $command here"; exit 0; }
	done
	if ! why=$(unshare "${user[@]}" -n -m sh -c 'mount -t tmpfs none /run && ip netns add x && ip link add name ws type bridge' 2>&1); then
		echo "-- operations.md: NOT RUN: no rights to make network namespaces: $why"
		exit 0
	fi
	exec unshare "${user[@]}" -n -m bash "$0" inside
fi

# From here on, names of namespaces and links are this script's own.
mount -t tmpfs none /run
tree=$(mktemp -d)
declare -A node # the process of the node on each machine
cleanup() {
	local p
	for p in /proc/[0-9]*; do # what runs in a folder of this run's
		case "$(readlink "$p/cwd" 2> /dev/null || true)" in "$tree"/*) kill -KILL "${p#/proc/}" 2> /dev/null || true ;; esac
	done
	rm -rf "$tree"
}
trap cleanup EXIT

say() { echo "-- operations.md: $*"; }

fail() {
	tail -n 15 "$tree"/*/node.log
	say "$*" >&2
	exit 1
}

block() { # NAME [FROM TO]: the fenced block after its marker, with another address
	awk -v want="<!-- run: $1 -->" '
		$0 == want { on = 1; next }
		on && /^```/ { if (inside) exit; inside = 1; next }
		on && inside { print }' docs/operations.md | sed "s/${2:-^\$}/${3:-}/"
}

ip link set lo up
ip link add name ws type bridge
ip link set ws up
for h in 7 8 9 10; do
	ip netns add "h$h"
	ip link add "ws$h" type veth peer name eth0 netns "h$h"
	ip link set "ws$h" master ws up
	ip -n "h$h" link set lo up
	ip -n "h$h" addr add "10.0.0.$h/24" dev eth0
	ip -n "h$h" link set eth0 up
	mkdir -p "$tree/$h/home"
done

at() { # MACHINE SCRIPT: in its folder, as its user
	(cd "$tree/$1" && HOME="$tree/$1/home" timeout 180 nsenter --net="/run/netns/h$1" bash -euo pipefail -c "$2")
}

expect() { # MACHINE BLOCK PATTERN...
	local h=$1 name=$2 out pattern
	shift 2
	say "$name, on 10.0.0.$h (${SECONDS}s)"
	[ -n "$(block "$name")" ] || fail "there is no block $name"
	out=$(at "$h" "$(block "$name")" 2>&1 < /dev/null) || fail "the block $name failed: $out"
	for pattern in "$@"; do
		grep -Eq -- "$pattern" <<< "$out" || fail "the block $name did not print /$pattern/: $out"
	done
}

settles() { # MACHINE BLOCK PATTERN...: one that only looks, again until it prints all
	local h=$1 name=$2 out pattern missing until=$((SECONDS + 120))
	shift 2
	say "$name, on 10.0.0.$h (${SECONDS}s)"
	[ -n "$(block "$name")" ] || fail "there is no block $name"
	while :; do
		missing=
		out=$(at "$h" "$(block "$name")" 2>&1 < /dev/null) || missing="its end"
		for pattern in "$@"; do
			grep -Eq -- "$pattern" <<< "$out" || missing=$pattern
		done
		[ -n "$missing" ] || return 0
		[ "$SECONDS" -lt "$until" ] || fail "the block $name did not print /$missing/: $out"
		sleep 0.5
	done
}

await() { # WHAT MACHINE SCRIPT: until it succeeds
	local until=$((SECONDS + 120))
	until at "$2" "$3" > /dev/null 2>&1; do
		[ "$SECONDS" -lt "$until" ] || fail "waited 120 s for $1: $(at "$2" "$3" 2>&1 || true)"
		sleep 0.2
	done
}

start() { # MACHINE SCRIPT [VARIABLE=VALUE...]
	local h=$1 script=$2
	shift 2
	rm -f "$tree/$h"/*data*/endpoints.json
	(cd "$tree/$h" && exec env HOME="$tree/$h/home" "$@" nsenter --net="/run/netns/h$h" bash -euo pipefail -c "$script") >> "$tree/$h/node.log" 2>&1 &
	disown
	await "the node on 10.0.0.$h" "$h" "cat *data*/endpoints.json && curl -sf http://10.0.0.$h:7401/readyz || curl -sf http://127.0.0.1:7401/readyz"
	node[$h]=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$tree/$h"/*data*/endpoints.json)
}

found() { start "$1" "$(block found 'host=10.0.0.7' "host=10.0.0.$1")" "WAYSTATION_ZONE=$2"; }

end() { # MACHINE SIGNAL
	local until=$((SECONDS + 60))
	kill "-$2" "${node[$1]}"
	while kill -0 "${node[$1]}" 2> /dev/null; do
		[ "$SECONDS" -lt "$until" ] || fail "the node on 10.0.0.$1 does not end"
		sleep 0.1
	done
	unset "node[$1]"
}

copies() { # MACHINE: every partition has three
	say "three copies, asked on 10.0.0.$1 (${SECONDS}s)"
	at "$1" "$(block whole)" > /dev/null || fail "three copies: $(at "$1" 'bin/waystation status' 2>&1)"
}

everybody=10.0.0.7:7400,10.0.0.8:7400,10.0.0.9:7400,10.0.0.10:7400
sent=0
send() { # MACHINE: one more packet goes in and has the next number
	sent=$((sent + 1))
	local out
	out=$(at "$1" "echo packet $sent > packet && bin/waystation send --addr $everybody --repo acme/api packet" 2>&1) || fail "send number $sent: $out"
	grep -q "^acme/api $sent\$" <<< "$out" || fail "send number $sent: $out"
}

go build -o "$tree/waystation" ./node
for h in 7 8 9 10; do
	mkdir "$tree/$h/bin"
	ln "$tree/waystation" "$tree/$h/bin/waystation"
done
say "keys"
at 7 "$(block keys)" > "$tree/openssl.log" 2>&1 || { cat "$tree/openssl.log"; fail "the block keys failed"; }
at 7 "$(block keys 'for host in .*;' 'for host in 10.0.0.10;' | sed -n '/^for /,/^done/p')" > "$tree/openssl.log" 2>&1 || { cat "$tree/openssl.log"; fail "the fourth certificate"; }
for h in 8 9 10; do
	cp "$tree"/7/{gossip.key,ca.pem,10.0.0.$h.key,10.0.0.$h.pem} "$tree/$h/"
done

# The three wait for each other: none is ready alone.
say "three nodes found a cluster (${SECONDS}s)"
for x in "7 rack-1" "8 rack-1" "9 rack-2"; do
	read -r h zone <<< "$x"
	(found "$h" "$zone"; echo "${node[$h]}" > "$tree/$h/pid") &
	starting[h]=$!
done
for h in 7 8 9; do
	wait "${starting[$h]}" || exit 1
	node[$h]=$(cat "$tree/$h/pid")
done
copies 8
settles 8 all 'durable copies *3'
settles 9 read 'node-10.0.0.7 .*up' 'node-10.0.0.9 .*up'
send 7

# The gossip key is changed while the nodes run, and none loses another. Who starts
# later knows the new key alone.
say "another gossip key (${SECONDS}s)"
old=$(cat "$tree/7/gossip.key")
new=$(openssl rand -base64 32)
step=0
for keys in "$old $new" "$new $old" "$new"; do
	step=$((step + 1))
	for h in 7 8 9; do
		# shellcheck disable=SC2086
		printf '%s\n' $keys > "$tree/$h/gossip.key"
	done
	for h in 7 8 9; do
		await "step $step of the gossip key on 10.0.0.$h" "$h" "curl -sf http://10.0.0.$h:7401/metrics > metrics
			grep -qx 'waystation_gossip_key_reloads_total $step' metrics && grep -qx 'waystation_gossip_members 3' metrics"
	done
done
cp "$tree/7/gossip.key" "$tree/10/"
settles 9 read 'node-10.0.0.7 .*up' 'node-10.0.0.8 .*up' 'node-10.0.0.9 .*up'

# Any one may go, the first too.
for x in "7 rack-1" "9 rack-2"; do
	read -r h zone <<< "$x"
	say "kill -9 on 10.0.0.$h (${SECONDS}s)"
	end "$h" KILL
	send 8
	found "$h" "$zone"
	send 8
	copies "$h"
done

# A fourth node, in a third zone: no partition keeps two copies in one.
start 10 "$(block grow)"
say "copies in three zones (${SECONDS}s)"
# shellcheck disable=SC2016
await "copies in three zones" 10 'curl -sf http://10.0.0.7:7401/v1/cluster | python3 -c "
import json, sys
c = json.load(sys.stdin)
zone = {n[\"id\"]: n[\"zone\"] for n in c[\"nodes\"]}
for p in c[\"partitions\"]:
    assert len({zone[v] for v in p[\"voters\"]}) == 3, p
"'
expect 8 drain 'holds no partition'
end 9 TERM
expect 8 remove
send 10

# One is lost for good, and another machine takes its place.
end 8 KILL
rm -rf "$tree/9/waystation-data"
found 9 rack-1
at 10 'bin/waystation remove node-10.0.0.8' || fail "remove a lost node"
copies 10
send 7

# One after the other is restarted.
for x in "7 rack-1" "9 rack-1"; do
	read -r h zone <<< "$x"
	end "$h" TERM
	found "$h" "$zone"
	copies "$h"
done
send 9
expect 7 verify
expect 7 backup
cp -r "$tree/7/backup-1" "$tree/8/"
rm -rf "$tree/8/waystation-data"
expect 8 restore
start 8 "$(block restored)"
restored=$(at 8 'bin/waystation repo acme/api') && grep -Eq "^head +$sent\$" <<< "$restored" || fail "the restored node has not all: $restored"
say "every block works as it stands (${SECONDS}s)"
