"""Times our reader and those of other libraries on the same slices of the same frames.

    cargo build --release --workspace --example read_slices
    python compare_readers.py PROGRAM FOLDER

PROGRAM is the example that was built; it makes one synthetic dataset in FOLDER (1 GB: textured frames of 224x224, see
scene/mod.rs) and exports it. Every reader reads 4 frames, 5 rows apart, with the actions and the proprioception of their 20
rows: all 1240 slices in order, and shuffled. One thread, everything read once before, so that it is in the page cache;
what counts is the CPU time of the process. That all of them read the same is checked by the sums of their pixels and
of the first action of every slice; pixels of lossy ones must come close. Prints a Markdown table; exit code 1 if two readers do not agree.

Needs numpy. Readers whose packages are missing are left out, and it says what to install:
    pip install stable-worldmodel opencv-python-headless hdf5plugin loguru h5py lerobot decord
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"

import numpy as np

PIP = "pip install stable-worldmodel opencv-python-headless hdf5plugin loguru h5py lerobot decord"
EPISODES, LENGTH, SIDE = 40, 50, 224
FRAMES, FRAMESKIP = 4, 5
SPAN = FRAMES * FRAMESKIP
STARTS = LENGTH - SPAN + 1
# Mean absolute difference of pixels that a lossy codec may cause.
LOSSY = 2.0


def row_of(index):
    """First row of a slice in the whole dataset."""
    return index // STARTS * LENGTH + index % STARTS


class Memmap:
    """Frames and rows as plain arrays: the least that Python can do."""

    name = "numpy memmap of raw frames"

    def __init__(self, folder):
        import h5py

        with h5py.File(folder / "export.h5") as file:
            for key in ["pixels", "action", "proprio"]:
                np.save(folder / f"{key}.npy", file[key][:])
        load = lambda key: np.load(folder / f"{key}.npy", mmap_mode="r")
        self.pixels, self.action, self.proprio = load("pixels"), load("action"), load("proprio")

    def read(self, index):
        start = row_of(index)
        rows = slice(start, start + SPAN)
        every = slice(start, start + SPAN, FRAMESKIP)
        return np.array(self.pixels[every]), np.array(self.action[rows]), np.array(self.proprio[every])


class StableWorldmodel:
    """stable-worldmodel's reader of HDF5, on `export swm`."""

    name = "stable-worldmodel HDF5"

    def __init__(self, folder):
        from stable_worldmodel.data.formats.hdf5 import HDF5Dataset

        self.data = HDF5Dataset(
            path=folder / "export.h5",
            frameskip=FRAMESKIP,
            num_steps=FRAMES,
            keys_to_load=["pixels", "action", "proprio"],
        )
        assert len(self.data) == EPISODES * STARTS, len(self.data)

    def read(self, index):
        sample = self.data[index]
        return sample["pixels"].permute(0, 2, 3, 1).numpy(), sample["action"].numpy(), sample["proprio"].numpy()


class LeRobot:
    """LeRobot's reader, on `export lerobot`: PNG frames in Parquet."""

    name = "LeRobot, PNG"

    def __init__(self, folder):
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        frames = [k * FRAMESKIP / 10 for k in range(FRAMES)]
        self.camera = "observation.images.top"
        self.data = LeRobotDataset(
            "local/compare",
            root=folder / "lerobot",
            delta_timestamps={
                self.camera: frames,
                "observation.state": frames,
                "action": [k / 10 for k in range(SPAN)],
            },
        )

    def read(self, index):
        sample = self.data[row_of(index)]
        pixels = sample[self.camera].permute(0, 2, 3, 1).numpy()
        return pixels, sample["action"].numpy(), sample["observation.state"].numpy()


class Decord:
    """decord on one H.264 video per episode, and NumPy arrays for the rows."""

    name = "decord, H.264 (crf 18, a key frame every 2)"
    is_lossy = True

    def __init__(self, folder):
        import decord

        rows = Memmap(folder)
        self.action, self.proprio = rows.action, rows.proprio
        self.videos = []
        for episode in range(EPISODES):
            path = folder / f"episode_{episode:03}.mp4"
            if not path.exists():
                frames = rows.pixels[episode * LENGTH : (episode + 1) * LENGTH]
                command = "ffmpeg -v error -y -f rawvideo -pix_fmt rgb24 -r 10".split()
                command += ["-s", f"{SIDE}x{SIDE}", "-i", "-"]
                command += "-c:v libx264 -crf 18 -g 2 -pix_fmt yuv420p".split()
                subprocess.run([*command, path], input=frames.tobytes(), check=True)
            self.videos.append(decord.VideoReader(str(path), num_threads=1))

    def read(self, index):
        episode, start = divmod(index, STARTS)
        row = row_of(index)
        frames = self.videos[episode].get_batch(list(range(start, start + SPAN, FRAMESKIP)))
        every = slice(row, row + SPAN, FRAMESKIP)
        return frames.asnumpy(), np.array(self.action[row : row + SPAN]), np.array(self.proprio[every])


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def time_python(reader, order):
    """CPU seconds for an order of slices, and the sums of what was read."""
    pixels = actions = 0
    for index in order:
        frames, action, _ = reader.read(index)
        # LeRobot gives floats of 0 to 1.
        if frames.dtype != np.uint8:
            frames = np.rint(frames * 255)
        pixels += int(frames.sum(dtype=np.int64))
        actions += float(action.ravel()[:2].sum(dtype=np.float64))
    before = cpu_seconds()
    for index in order:
        reader.read(index)
    return cpu_seconds() - before, pixels, actions


def time_ours(program, dataset, order, folder):
    (folder / "order.txt").write_text(" ".join(map(str, order)))
    command = [program, "read", dataset, folder / "order.txt"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert found["slices"] == EPISODES * STARTS, found
    return found["cpu_s"], found["pixels"], found["actions"]


def check_swm(folder):
    """stable-worldmodel reads from our export the frames and actions that are in it."""
    reader, plain = StableWorldmodel(folder), Memmap(folder)
    for index in range(0, EPISODES * STARTS, 37):
        for found, expected in zip(reader.read(index), plain.read(index)):
            assert np.array_equal(found.ravel(), expected.ravel(), equal_nan=True), index
    print("stable-worldmodel reads `export swm`: equal frames, actions and proprioception", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    folder = arguments.folder
    if not (folder / "export.h5").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([arguments.program, "make", folder], check=True)

    in_order = list(range(EPISODES * STARTS))
    shuffled = np.random.default_rng(0).permutation(in_order).tolist()
    orders = [in_order, shuffled]
    rows = []
    for name in ["raw", "lossless", "jpeg"]:
        measured = [time_ours(arguments.program, folder / name, order, folder) for order in orders]
        rows.append((f"jepa-bench, {name}" + (":90" if name == "jpeg" else ""), name == "jpeg", measured))
    for kind in [Memmap, StableWorldmodel, LeRobot, Decord]:
        try:
            reader = kind(folder)
        except ImportError as error:
            print(f"left out: {kind.name}: {error}; {PIP}", file=sys.stderr)
            continue
        if kind is StableWorldmodel:
            check_swm(folder)
        measured = [time_python(reader, order) for order in orders]
        rows.append((kind.name, getattr(kind, "is_lossy", False), measured))

    values = EPISODES * STARTS * FRAMES * SIDE * SIDE * 3
    _, expected, actions = rows[0][2][0]
    print("| reader | in order, slices per CPU-second | shuffled | shuffled, against ours lossless |")
    print("|---|---|---|---|")
    base = rows[1][2][1][0]
    agree = True
    for name, is_lossy, measured in rows:
        for _, pixels, found in measured:
            same = abs(pixels - expected) <= (LOSSY * values if is_lossy else 0)
            # Sums of floats depend on their order.
            same &= abs(found - actions) < 1e-6 * abs(actions)
            if not same:
                print(f"{name}: the sums are {pixels}, {found}, not {expected}, {actions}", file=sys.stderr)
            agree &= same
        rates = [len(order) / seconds for order, (seconds, _, _) in zip(orders, measured)]
        print(f"| {name} | {rates[0]:,.0f} | {rates[1]:,.0f} | {base / measured[1][0]:.2f} |")
    print(time.strftime("%Y-%m-%d"), os.uname().machine, f"{os.cpu_count()} cores", file=sys.stderr)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
