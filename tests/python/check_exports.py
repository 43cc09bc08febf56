"""Compares exports of a dataset with the dataset itself, each opened by the library that owns its layout.

    python check_exports.py DATASET [--lerobot DIR] [--swm FILE] [--zarr DIR]

Needs numpy, pyarrow and zarr 3 (for the frames of the dataset), h5py for --swm, Pillow for --lerobot; LeRobotDataset
itself is used where lerobot is installed. Prints one line per check; exit code 0 only if all of them hold.
"""

import argparse
import importlib.util
import json
import pathlib
import sys

import numpy as np
import pyarrow.parquet as pq
import zarr


class Native:
    """A dataset in format version 1."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.manifest = json.loads((self.root / "dataset.json").read_text())
        self.episodes = pq.read_table(self.root / "episodes.parquet").to_pylist()
        parts = sorted((self.root / "steps").glob("*.parquet"))
        self.tables = [pq.read_table(part) for part in parts]
        self.lengths = [episode["length"] for episode in self.episodes]
        self.offsets = np.cumsum([0, *self.lengths])
        self.tasks = self.manifest["tasks"]

    def has(self, name):
        return any(field["name"] == name for field in self.manifest["fields"])

    def column(self, name):
        return np.concatenate([as_array(table.column(name)) for table in self.tables])

    def frames(self, camera):
        """One frame per row, rounded half to even."""
        array = zarr.open_array(str(self.root / "frames" / f"{camera}.zarr"), mode="r")[:]
        extra = int(self.manifest["extra_last_obs"])
        starts = np.cumsum([0] + [length + extra for length in self.lengths])
        kept = [array[start : start + length] for start, length in zip(starts, self.lengths)]
        return np.rint(np.concatenate(kept)).astype(np.uint8)

    def cameras(self):
        return [camera["name"] for camera in self.manifest["cameras"]]


def as_array(column):
    values = column.combine_chunks()
    if hasattr(values, "flatten") and values.type.num_fields:
        flat = values.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(values), -1)
    return values.to_numpy(zero_copy_only=False)


FAILED = []


def check(what, holds):
    print(("ok      " if holds else "FAILED  ") + what)
    if not holds:
        FAILED.append(what)


def same(what, found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    equal = found.shape == expected.shape and found.dtype == expected.dtype
    check(f"{what}: {expected.shape} {expected.dtype}", equal and np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"))


def provenance(what, document, native):
    check(f"{what}: provenance names the dataset", document["dataset"]["content_hash"] == native.manifest["content_hash"])
    check(f"{what}: provenance has units, rates and every episode", all((
        document["action"]["units"],
        document["fps"] == native.manifest["fps"],
        document["control_hz"] == native.manifest["control_hz"],
        len(document["episodes"]) == len(native.lengths),
        "before any split" in document["statistics"],
    )))


SHORT = {"observation.proprio": "proprio", "observation.state": "state", "next.reward": "reward"}


def check_zarr(path, native):
    group = zarr.open_group(path, mode="r")
    check("zarr: format 2", group.metadata.zarr_format == 2)
    same("zarr: episode_ends", group["meta/episode_ends"][:], native.offsets[1:].astype("<i8"))
    for field in native.manifest["fields"]:
        name = field["name"]
        key = SHORT.get(name, name)
        same(f"zarr: {key}", group["data"][key][:], native.column(name))
    for k, camera in enumerate(native.cameras()):
        key = "img" if k == 0 else f"img_{camera}"
        same(f"zarr: {key}", group["data"][key][:], native.frames(camera))
    tasks = group["meta"].attrs["tasks"]
    found = [tasks[index] for index in group["meta/task_index"][:]]
    check("zarr: tasks", found == [episode["task"] for episode in native.episodes])
    provenance("zarr", json.loads((pathlib.Path(path) / "meta/jepa_bench.json").read_text()), native)


def check_swm(path, native):
    import h5py

    with h5py.File(path, "r") as file:
        same("swm: ep_len", file["ep_len"][:], np.array(native.lengths, "<i4"))
        same("swm: ep_offset", file["ep_offset"][:], native.offsets[:-1].astype("<i8"))
        same("swm: episode_idx", file["episode_idx"][:], np.repeat(np.arange(len(native.lengths), dtype="<i4"), native.lengths))
        for field in native.manifest["fields"]:
            name = field["name"]
            key = SHORT.get(name, name)
            expected = native.column(name).copy()
            for start, end in zip(native.offsets[:-1], native.offsets[1:]):
                if name == "action":
                    expected[end - 1] = np.nan
                if name == "next.reward":
                    expected[start:end] = np.roll(expected[start:end], 1)
                    expected[start] = np.nan
            same(f"swm: {key}", file[key][:], expected)
            check(f"swm: {key} has one chunk per row", file[key].chunks[0] == 1 and file[key].maxshape[0] is None)
        for k, camera in enumerate(native.cameras()):
            key = "pixels" if k == 0 else f"pixels_{camera}"
            same(f"swm: {key}", file[key][:], native.frames(camera))
        if any(native.tasks):
            texts = file["task"].asstr()[:]
            expected = np.repeat([episode["task"] for episode in native.episodes], native.lengths)
            check("swm: task", list(texts) == list(expected))
        provenance("swm", json.loads(file.attrs["jepa_bench"]), native)


LEROBOT = {"observation.proprio": "observation.state", "observation.state": "observation.environment_state"}


def check_lerobot_files(root, native):
    import io

    from PIL import Image

    root = pathlib.Path(root)
    info = json.loads((root / "meta/info.json").read_text())
    stats = json.loads((root / "meta/stats.json").read_text())
    check("lerobot: version 3.0", info["codebase_version"] == "v3.0")
    check("lerobot: totals", (info["total_episodes"], info["total_frames"]) == (len(native.lengths), sum(native.lengths)))
    files = sorted(root.glob("data/*/*.parquet"))
    groups = [pq.ParquetFile(file).metadata.num_row_groups for file in files]
    check("lerobot: one row group per episode", sum(groups) == len(native.lengths))
    check("lerobot: huggingface metadata", all(b"huggingface" in (pq.read_schema(file).metadata or {}) for file in files))
    tables = [pq.read_table(file) for file in files]
    column = lambda name: np.concatenate([as_array(table.column(name)) for table in tables])
    same("lerobot: index", column("index"), np.arange(sum(native.lengths)))
    frame = np.concatenate([np.arange(length) for length in native.lengths])
    same("lerobot: frame_index", column("frame_index"), frame)
    same("lerobot: timestamp", column("timestamp"), (frame / info["fps"]).astype("<f4"))
    for field in native.manifest["fields"]:
        name = LEROBOT.get(field["name"], field["name"])
        expected = native.column(field["name"])
        same(f"lerobot: {name}", column(name), expected)
        for statistic, value in (("mean", expected.mean(0)), ("std", expected.std(0)), ("q90", np.quantile(expected, 0.9, 0))):
            check(f"lerobot: {statistic} of {name}", np.allclose(stats[name][statistic], value, rtol=1e-5, atol=1e-6))
    for camera in native.cameras():
        name = f"observation.images.{camera}"
        expected = native.frames(camera)
        rows = [row["bytes"] for table in tables for row in table.column(name).to_pylist()]
        found = np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in rows])
        same(f"lerobot: {name}", found, expected)
        check(f"lerobot: statistics of {name} are one number per channel, 0 to 1",
              np.shape(stats[name]["mean"]) == (3, 1, 1) and 0 <= np.min(stats[name]["min"]) and np.max(stats[name]["max"]) <= 1)
    episodes = pq.read_table(sorted(root.glob("meta/episodes/*/*.parquet"))[0]).to_pylist()
    check("lerobot: episode ranges", [(e["dataset_from_index"], e["dataset_to_index"]) for e in episodes] == list(zip(native.offsets[:-1], native.offsets[1:]))[: len(episodes)])
    check("lerobot: tasks.parquet restores its index", b"pandas" in (pq.read_schema(root / "meta/tasks.parquet").metadata or {}))
    tasks = pq.read_table(root / "meta/tasks.parquet").to_pylist()
    check("lerobot: tasks by row", [task["task"] for task in tasks] == native.tasks and [task["task_index"] for task in tasks] == list(range(len(tasks))))
    provenance("lerobot", json.loads((root / "meta/jepa_bench.json").read_text()), native)


def check_datasets_library(root, native):
    """What LeRobotDataset itself is built on: the tables, opened with the features of info.json."""
    import datasets

    datasets.disable_progress_bars()
    info = json.loads((pathlib.Path(root) / "meta/info.json").read_text())
    features = {}
    for name, feature in info["features"].items():
        value = datasets.Value(feature["dtype"]) if feature["dtype"] != "image" else datasets.Image()
        is_list = feature["dtype"] != "image" and feature["shape"] != [1]
        features[name] = datasets.Sequence(value, length=feature["shape"][0]) if is_list else value
    files = [str(path) for path in sorted(pathlib.Path(root).glob("data/*/*.parquet"))]
    table = datasets.Dataset.from_parquet(files, features=datasets.Features(features))
    plain = datasets.Dataset.from_parquet(files)
    check(f"datasets {datasets.__version__} has the rows", len(table) == len(plain) == sum(native.lengths))
    check("datasets: the embedded features are those of info.json", plain.features == table.features)
    episodes = datasets.Dataset.from_parquet([str(path) for path in sorted(pathlib.Path(root).glob("meta/episodes/*/*.parquet"))])
    check("datasets: episode table", episodes["length"][:] == native.lengths)
    for camera in native.cameras():
        frames = native.frames(camera)
        for row in (0, len(table) - 1):
            check(f"datasets[{row}] {camera}", np.array_equal(np.asarray(table[row][f"observation.images.{camera}"]), frames[row]))


def check_lerobot_library(root, native):
    try:
        import lerobot
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError as error:
        print(f"SKIPPED lerobot cannot be imported ({error}): its own reader did not open the export")
        return
    dataset = LeRobotDataset("local/check", root=root)
    check(f"LeRobotDataset {lerobot.__version__} has the episodes", (dataset.num_episodes, dataset.num_frames) == (len(native.lengths), sum(native.lengths)))
    columns = {field["name"]: native.column(field["name"]) for field in native.manifest["fields"]}
    frames = {camera: native.frames(camera) for camera in native.cameras()}
    for row in sorted({0, 1, sum(native.lengths) // 2, sum(native.lengths) - 1}):
        item = dataset[row]
        for name, values in columns.items():
            found = item[LEROBOT.get(name, name)].numpy()
            # It turns every number into the default float of torch.
            check(f"LeRobotDataset[{row}] {name}", np.array_equal(np.ravel(found), np.ravel(values[row]).astype(found.dtype)))
        for camera, pixels in frames.items():
            found = item[f"observation.images.{camera}"].numpy()
            check(f"LeRobotDataset[{row}] {camera}", np.array_equal(np.rint(found.transpose(1, 2, 0) * 255).astype(np.uint8), pixels[row]))
        episode = int(np.searchsorted(native.offsets, row, side="right")) - 1
        check(f"LeRobotDataset[{row}] task", item["task"] == native.episodes[episode]["task"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("--lerobot")
    parser.add_argument("--swm")
    parser.add_argument("--zarr")
    args = parser.parse_args()
    native = Native(args.dataset)
    if args.zarr:
        check_zarr(args.zarr, native)
    if args.swm:
        check_swm(args.swm, native)
    if args.lerobot:
        check_lerobot_files(args.lerobot, native)
        if importlib.util.find_spec("datasets"):
            check_datasets_library(args.lerobot, native)
        check_lerobot_library(args.lerobot, native)
    sys.exit(bool(FAILED))


main()
