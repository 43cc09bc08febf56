#!/usr/bin/env bash
# Peak memory of `jepa-bench ingest` on a made-up release of many episodes and on one of large frames.
#
#   ingest/benches/memory.sh PYTHON JEPA_BENCH FOLDER
#
# PYTHON can import torch and h5py, JEPA_BENCH is the program, FOLDER (new) takes 5,000 Push-T episodes of 40 frames of 224x224
# (2 GB with the dataset) and 6 DROID episodes of 300 frames of 1280x720 from three cameras.
set -eu

python="$1"
program="$(realpath "$2")"
folder="$3"
mkdir -p "$folder/pusht_noise/train/obses" "$folder/droid"
cd "$folder"

"$python" - <<'PY'
import json
import pathlib
import pickle

import h5py
import numpy
import torch

episodes, rows = 5000, 40
part = "pusht_noise/train/"
for name, width in [("states", 5), ("velocities", 2), ("rel_actions", 2), ("abs_actions", 2)]:
    torch.save(torch.rand(episodes, rows, width), f"{part}{name}.pth")
with open(f"{part}seq_lengths.pkl", "wb") as file:
    pickle.dump([rows] * episodes, file)

for k in range(6):
    folder = pathlib.Path(f"droid/episode_{k}")
    (folder / "recordings/MP4").mkdir(parents=True, exist_ok=True)
    cameras = {f"{view}_mp4_path": f"recordings/MP4/{view}.mp4" for view in ["left", "right", "wrist"]}
    (folder / f"metadata_{k}.json").write_text(json.dumps({"uuid": str(k), "success": True, **cameras}))
    with h5py.File(folder / "trajectory.h5", "w") as file:
        state = file.create_group("observation/robot_state")
        state["cartesian_position"] = numpy.random.default_rng(k).normal(size=(300, 6))
        state["gripper_position"] = numpy.zeros(300)
PY
encode() {
    ffmpeg -loglevel error -y -f lavfi -i "testsrc2=size=$1:rate=15" -frames:v "$2" -pix_fmt yuv420p -c:v libx264 -preset veryfast "$3"
}
encode 224x224 40 small.mp4
for k in $(seq 0 4999); do
    ln -f small.mp4 "pusht_noise/train/obses/episode_$(printf %03d "$k").mp4"
done
encode 1280x720 300 large.mp4
for view in left right wrist; do
    for k in $(seq 0 5); do
        ln -f large.mp4 "droid/episode_$k/recordings/MP4/$view.mp4"
    done
done

measure() {
    rm -rf dataset
    printf '%-84s ' "$*"
    /usr/bin/time -f '%M kB, %e s' "$program" -q ingest "$@" >/dev/null
}
measure pusht . dataset --threads 2
measure pusht . dataset --threads 8
measure droid droid dataset --camera left --camera right --camera wrist --threads 2
