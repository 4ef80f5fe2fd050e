#!/bin/sh
# Starts three hubs of one cluster on this machine, publishes the built-in mock at one of them, calls it at each, and kills the hub that
# has its channel in the middle of a stream of another hub's caller: the stream goes on. Everything is removed at the end.
#
#   examples/cluster/up.sh                  ends after the demonstration
#   examples/cluster/up.sh --stay           leaves the hubs running until Ctrl-C
#
# Needs curl, psql, nats-server and a PostgreSQL server on which DATABASE_SERVER may create a database.
set -eu

program=${VIRTUAL_LLM:-virtual-llm}
server=${DATABASE_SERVER:-postgres://postgres@127.0.0.1:5432}
base=${PORT:-18700}
name=virtual_llm_example_$$
dir=$(mktemp -d)
hubs="a b c"
pids=

end() {
    trap - EXIT
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    psql -q "$server/postgres" -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM

for tool in "$program" curl psql nats-server; do
    command -v "$tool" >/dev/null || { echo "up.sh: $tool is missing" >&2; exit 1; }
done

until_it() { # until_it WHAT COMMAND…: repeats the command for at most 30 s
    what=$1
    shift
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "up.sh: timed out: $what; see the logs:" >&2
    tail -n 5 "$dir"/*.log >&2
    exit 1
}

psql -q "$server/postgres" -c "CREATE DATABASE $name"
(umask 077 && echo "$server/$name" >"$dir/database")
nats-server -a 127.0.0.1 -p "$base" >"$dir/nats.log" 2>&1 &
pids="$pids $!"

VIRTUAL_LLM_ADMIN_TOKEN=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export VIRTUAL_LLM_ADMIN_TOKEN
start() { # start ID PORT
    "$program" hub --cluster example --hub-id "$1" --database-url-file "$dir/database" \
        --nats-url "nats://127.0.0.1:$base" --data-dir "$dir/$1" --listen "127.0.0.1:$2" >"$dir/$1.log" 2>&1 &
    pids="$pids $!"
    eval "port_$1=$2 pid_$1=$!"
    until_it "hub $1 is ready" curl -fsS "http://127.0.0.1:$2/readyz"
    echo "hub $1: http://127.0.0.1:$2"
}
port=$base
for id in $hubs; do
    port=$((port + 1))
    start "$id" "$port"
done

# A registrar knows one address: that of a load balancer. Here it is that of the first hub, and of the hub that takes its place.
mkdir -m 700 "$dir/home"
cat >"$dir/home/config.json" <<'END'
{ "llm": { "providers": [{ "name": "mock", "type": "mock", "publish": true, "visibility": "public", "tokens": 60,
    "tokensPerSecond": 20 }] } }
END
MCPD_TOKEN=$VIRTUAL_LLM_ADMIN_TOKEN
export MCPD_TOKEN
"$program" --home "$dir/home" --hub-url "http://127.0.0.1:$port_a" publish --reconnect-base 200ms >"$dir/publisher.log" 2>&1 &
pids="$pids $!"

call() { # call PORT [MORE]: with further members of the request
    curl -fsSN -H "authorization: Bearer $VIRTUAL_LLM_ADMIN_TOKEN" -H 'content-type: application/json' \
        -d "{\"model\":\"mock\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]${2:-}}" \
        "http://127.0.0.1:$1/v1/chat/completions"
}
for id in $hubs; do
    eval "port=\$port_$id"
    until_it "hub $id reaches the mock" call "$port"
    echo "called at hub $id; its publisher is connected to hub a"
done

words() { grep -c '"content":' "$dir/stream" || true; }
call "$port_c" ',"stream":true' >"$dir/stream" &
stream=$!
sleep 1
kill -9 "$pid_a"
wait "$pid_a" 2>/dev/null || true # else the shell says that it was killed
echo "killed hub a after $(words) words of a stream of hub c; its publisher finds hub d in its place"
start d "$port_a"
wait "$stream"
grep -q '^data: \[DONE\]' "$dir/stream"
echo "the stream went on, and ended after $(words) words"
curl -fsS -H "authorization: Bearer $VIRTUAL_LLM_ADMIN_TOKEN" "http://127.0.0.1:$port_c/api/v1/cluster"
echo

if [ "${1:-}" = --stay ]; then
    echo "the admin token is $VIRTUAL_LLM_ADMIN_TOKEN; Ctrl-C ends all"
    wait
fi
