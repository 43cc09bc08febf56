#!/usr/bin/env bash
# Times `jepa-bench ingest pusht` against the `ffmpeg` program decoding the same videos to raw RGB, each on two
# cores, three times in turn.
#
#   ingest/benches/against_ffmpeg.sh PYTHON JEPA_BENCH FOLDER
#
# PYTHON can import torch, JEPA_BENCH is the program, FOLDER (new) takes a made-up release of 40 episodes of 240 frames of
# 224x224.
set -eu

python="$1"
program="$(realpath "$2")"
folder="$3"
mkdir -p "$folder/pusht_noise/train/obses"
cd "$folder"

"$python" - <<'PY'
import pickle
import torch

episodes, rows, length = 40, 246, 240
part = "pusht_noise/train/"
for name, width in [("states", 5), ("velocities", 2), ("rel_actions", 2), ("abs_actions", 2)]:
    torch.save(torch.rand(episodes, rows, width), f"{part}{name}.pth")
with open(f"{part}seq_lengths.pkl", "wb") as file:
    pickle.dump([length] * episodes, file)
PY
ffmpeg -loglevel error -y -f lavfi -i testsrc2=size=224x224:rate=10 -frames:v 240 -pix_fmt yuv420p -c:v libx264 first.mp4
for k in $(seq 0 39); do
    cp first.mp4 "pusht_noise/train/obses/episode_$(printf %03d "$k").mp4"
done

decode() {
    ls pusht_noise/train/obses/*.mp4 |
        xargs -P 2 -I{} ffmpeg -loglevel error -threads 1 -i {} -f rawvideo -pix_fmt rgb24 -y /dev/null
}
export TIMEFORMAT='%R s'
for _ in 1 2 3; do
    printf '%-17s' ffmpeg
    time decode
    for codec in lossless raw; do
        rm -rf dataset
        printf '%-17s' "ingest, $codec"
        time "$program" -q ingest pusht . dataset --codec "$codec" --threads 2 >/dev/null
    done
done
