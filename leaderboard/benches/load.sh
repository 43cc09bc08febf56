#!/usr/bin/env bash
# Load on the board: made-up submissions served to wrk (Debian: wrk). Prints requests per second, latencies and the most memory
# that the server took.
#
#   leaderboard/benches/load.sh [RUNS] [EPISODES] [SECONDS] [CONNECTIONS]
set -eu
cd "$(dirname "$0")/../.."

runs="${1:-1000}" episodes="${2:-100}" seconds="${3:-15}" connections="${4:-32}"
command -v wrk >/dev/null 2>&1 || {
    echo "error: no wrk found" >&2
    echo "hint: apt-get install wrk" >&2
    exit 2
}
target="${CARGO_TARGET_DIR:-target}"
cargo build --release -p jepa-leaderboard --example made_up_board
folder="${BOARD_FOLDER:-$(mktemp -d)}"
pipe="$folder/stop"
rm -f "$pipe" && mkfifo "$pipe"
"$target/release/examples/made_up_board" "$folder" "$runs" "$episodes" 0 <"$pipe" >"$folder/address" &
server=$!
exec 3>"$pipe"
while [ ! -s "$folder/address" ]; do
    kill -0 "$server"
    sleep 0.2
done
address="$(cat "$folder/address")"
memory() { sed -n 's/^VmHWM:[[:space:]]*//p' "/proc/$server/status"; }
echo "board of $runs submissions of $episodes episodes at $address; memory after the start: $(memory)"
run="$(curl -s "${address}task/wall@1.json" | sed -n 's/.*"run": "\([0-9a-f]*\)".*/\1/p' | head -1)"
for path in task/wall@1 'task/wall@1?sort=success&desc=1&page=3' "run/$run" ''; do
    for encoding in gzip identity; do
        echo
        echo "/$path, $encoding"
        wrk --latency -t 2 -c "$connections" -d "${seconds}s" -H "accept-encoding: $encoding" "$address$path" |
            grep -E 'Latency|50%|99%|Requests/sec|Non-2xx|Socket errors|Transfer' || true
    done
done
echo
echo "pages that are not in the cache: 300 questions, each other"
start=$(date +%s.%N)
for k in $(seq 300); do echo "url = \"${address}task/wall@1?q=$k\""; echo 'output = "/dev/null"'; done | curl -s --compressed --parallel --parallel-max 8 -K -
end=$(date +%s.%N)
echo "$(echo "300 / ($end - $start)" | bc -l | cut -c1-6) pages/s"
echo "most memory: $(memory)"
exec 3>&-
wait "$server"
rm -f "$pipe"
