"""Times a training step of small models in jepa-bench and in PyTorch eager, in turn.

    cargo build --release -p jepa-bench -p jepa-models --example training_step
    python against_pytorch.py PROGRAM [--models pldm adaln:3 adaln:16] [--threads 1 2] [--rounds 7] [--steps 3]

PROGRAM is the example that was built. Both sides train the same network from the same weights on the same batch: forward,
loss, backward, clipping by the norm of the gradient, AdamW.

    pldm      the model of recipe `wall`: 32 slices of 7 frames of 65x65 pixels, all seven terms of its loss
    adaln:H   the AdaLN predictor: 4 blocks of width 192 with H heads, rotary positions, a frame-causal mask, 4 frames of 64
              tokens, batch 16, mean squared error

The losses of the first steps must agree. Then both train a few steps in turn, so that what else the machine does meets both.
Prints a Markdown table of medians per step; exit code 1 if the losses do not agree.

Columns "CPU" are CPU time of all threads of the process (with one thread the number that other work on the machine disturbs
least), columns "clock" are time on the clock.

Needs torch and numpy: pip install torch numpy
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

WIDTH, DEPTH, SIDE, FRAMES, BATCH, ACTIONS = 192, 4, 8, 4, 16, 10
PATCHES = SIDE * SIDE
LENGTH = FRAMES * PATCHES
# Settings of the example: models/src/train/synthetic_transformer.rs.
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, EPSILON = 1e-3, 1e-5, 2.0, 1e-6
# Those of `pldm`: models/src/train/config.rs and models/src/pldm.rs; the rate rises over the first tenth of the steps.
PLDM_RATE, PLDM_WARMUP, NORM_GROUPS, FLOOR = 3e-3, 160, 4, 0.03
PLDM_WEIGHTS = {"prediction": 1.6, "std": 16, "covariance": 4, "similarity": 2, "inverse": 1, "proprio": 1, "rollout_proprio": 3}
# Relative difference of losses after a few steps: float32 sums in another order, through AdamW, which divides small
# gradients by small numbers.
AGREEMENT = 2e-4


class Ours:
    """The example, one process that trains when it is told to."""

    def __init__(self, program, model, threads, folder):
        environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            [program, model, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def train(self, steps):
        """Loss of the last step, seconds on the clock, seconds of CPU."""
        print(steps, file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return answer["loss"], answer["wall_s"], answer["cpu_s"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def rope_tables(torch, head):
    """Cosines and sines `[L, head]` of the released V-JEPA 2 code: chunks for frame, row and column."""
    chunk = 2 * (head // 3 // 2)
    angles = torch.zeros(LENGTH, head, dtype=torch.float64)
    frequencies = 10_000.0 ** (-torch.arange(chunk // 2, dtype=torch.float64) / (chunk // 2))
    token = torch.arange(LENGTH)
    for axis, place in enumerate([token // PATCHES, token % PATCHES // SIDE, token % SIDE]):
        angles[:, axis * chunk : (axis + 1) * chunk] = place[:, None] * torch.cat([frequencies, frequencies])
    return angles.cos().float(), angles.sin().float()


def build(torch, heads, arrays):
    """The same network in PyTorch, with the weights of the example."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)
            self.attn = nn.ModuleDict({"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)})
            self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)})
            self.modulation = nn.Linear(WIDTH, 6 * WIDTH)

        def attend(self, x, tables, mask):
            packed = self.attn["qkv"](x).unflatten(-1, (3, heads, WIDTH // heads))
            queries, keys, values = packed.permute(2, 0, 3, 1, 4)
            queries, keys = turn(queries, tables), turn(keys, tables)
            seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            return self.attn["proj"](seen.transpose(1, 2).flatten(2))

        def forward(self, x, condition, tables, mask):
            modulation = self.modulation(condition).unsqueeze(2)
            shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
            frames = lambda t: t.view(BATCH, FRAMES, PATCHES, WIDTH)
            tokens = lambda t: t.view(BATCH, LENGTH, WIDTH)
            modulated = tokens(frames(self.norm1(x)) * (1 + scale1) + shift1)
            x = x + tokens(gate1 * frames(self.attend(modulated, tables, mask)))
            modulated = tokens(frames(self.norm2(x)) * (1 + scale2) + shift2)
            changed = self.mlp["fc2"](functional.gelu(self.mlp["fc1"](modulated)))
            return x + tokens(gate2 * frames(changed))

    def turn(x, tables):
        cosines, sines = tables
        pairs = x.unflatten(-1, (-1, 2))
        turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
        return x * cosines + turned * sines

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.predictor_embed = nn.Linear(WIDTH, WIDTH)
            self.action_encoder = nn.Linear(ACTIONS, WIDTH)
            self.predictor_blocks = nn.ModuleList([Block() for _ in range(DEPTH)])
            self.predictor_norm = nn.LayerNorm(WIDTH, EPSILON)
            self.predictor_proj = nn.Linear(WIDTH, WIDTH)

        def forward(self, tokens, actions, tables, mask):
            condition = functional.silu(self.action_encoder(actions))
            x = self.predictor_embed(tokens)
            for block in self.predictor_blocks:
                x = block(x, condition, tables, mask)
            return self.predictor_proj(self.predictor_norm(x))

    network = Network()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            # Our linear weights are [in, out], our norms have gamma and beta.
            is_norm = "norm" in name
            ours = name.replace("weight", "gamma").replace("bias", "beta") if is_norm else name
            value = torch.from_numpy(arrays.pop(ours))
            parameter.copy_(value.T if value.ndim == 2 else value)
    assert not arrays, arrays.keys()
    return network


class Pldm:
    """`pldm` and its loss, with the weights of the example."""

    def __init__(self, torch, arrays):
        self.torch, self.functional = torch, torch.nn.functional
        tensor = lambda name: torch.from_numpy(arrays.pop(name))
        self.batch = {name: tensor(name) for name in ["images", "actions", "proprio", "rows_proprio"]}
        # Products in PyTorch's own layout, [out, in], for all but the batched networks.
        turned = lambda name, value: value.T.contiguous() if value.ndim == 2 else value
        self.parameters = {
            name: torch.nn.Parameter(turned(name, tensor(name))) for name in list(arrays)
        }

    def encode(self, images):
        x, p = images, self.parameters
        for block, (stride, padding) in enumerate([(4, 2), (2, 1), (2, 1)]):
            name = f"encoder.blocks.{block}"
            x = self.functional.conv2d(x, p[f"{name}.conv.weight"], p[f"{name}.conv.bias"], stride, padding)
            x = self.functional.group_norm(x, NORM_GROUPS, p[f"{name}.norm.gamma"], p[f"{name}.norm.beta"])
            x = self.functional.relu(x)
        return self.functional.linear(x.flatten(1), p["encoder.project.weight"], p["encoder.project.bias"])

    def predict(self, start, actions):
        """Latents after every native action, `[E, B, steps, D]`."""
        p, latent = self.parameters, start
        layers = [(p[f"predictor.mlp.layers.{i}.weight"], p[f"predictor.mlp.layers.{i}.bias"]) for i in range(3)]
        after = []
        for action in actions.flatten(1).split(2, dim=1):
            x = self.torch.cat([latent, action.expand(len(latent), -1, -1)], 2)
            for index, (weight, bias) in enumerate(layers):
                x = self.torch.baddbmm(bias, x, weight)
                x = self.functional.relu(x) if index < 2 else x
            latent = latent + x
            after.append(latent)
        return self.torch.stack(after, 2)

    def invert(self, pairs):
        p = self.parameters
        for i in range(3):
            pairs = self.functional.linear(pairs, p[f"inverse.layers.{i}.weight"], p[f"inverse.layers.{i}.bias"])
            pairs = self.functional.relu(pairs) if i < 2 else pairs
        return pairs

    def read(self, latents):
        p = self.parameters
        return self.functional.linear(latents, p["proprio.weight"], p["proprio.bias"])

    def loss(self):
        torch, mse = self.torch, self.functional.mse_loss
        images, actions, proprio, rows = self.batch.values()
        batch, horizon, block = actions.shape
        pooled = self.encode(images)
        latents = pooled.view(batch, horizon + 1, -1)
        start = latents[:, 0].expand(5, -1, -1)
        native = self.predict(start, actions)
        per_block = native.shape[2] // horizon
        distance = lambda a, b: ((a - b).square().mean(-1) + FLOOR * FLOOR).sqrt().mean()
        centred = pooled - pooled.mean(0)
        matrix = centred.T @ centred / (len(pooled) - 1)
        width = pooled.shape[1]
        variance = pooled.var(0)
        terms = {
            "prediction": distance(native[:, :, per_block - 1 :: per_block], latents[:, 1:]),
            "std": (1 - (variance + 1e-4).sqrt()).clamp_min(0).mean(),
            "covariance": (matrix.square().sum() - variance.square().sum()) / (width * (width - 1)),
            "similarity": mse(latents[:, 1:], latents[:, :-1]),
            "inverse": mse(self.invert(torch.cat([latents[:, :-1], latents[:, 1:]], 2)), actions),
            "proprio": mse(self.read(pooled), proprio),
            "rollout_proprio": distance(self.read(native), rows[:, 1:]),
        }
        return sum(PLDM_WEIGHTS[name] * value for name, value in terms.items())

    def groups(self):
        decays = lambda name, p: p.ndim > 1 and not name.endswith("bias")
        return [[p for name, p in self.parameters.items() if decays(name, p) == decayed] for decayed in (True, False)]

    def rate(self, step):
        return PLDM_RATE * step / PLDM_WARMUP


class AdaLn:
    """The AdaLN predictor with the weights of the example."""

    def __init__(self, torch, heads, arrays):
        self.torch = torch
        batch = [torch.from_numpy(arrays.pop(name)) for name in ["tokens", "actions", "targets"]]
        self.tokens, self.actions, self.targets = [batch[0].flatten(1, 2), batch[1], batch[2].flatten(1, 2)]
        self.network = build(torch, heads, arrays)
        self.tables = rope_tables(torch, WIDTH // heads)
        frame = torch.arange(LENGTH) // PATCHES
        self.mask = frame[None, :] <= frame[:, None]

    def loss(self):
        output = self.network(self.tokens, self.actions, self.tables, self.mask)
        return self.torch.nn.functional.mse_loss(output, self.targets)

    def groups(self):
        return [[p for p in self.network.parameters() if (p.ndim > 1) == decayed] for decayed in (True, False)]

    def rate(self, step):
        return LEARNING_RATE


class PyTorch:
    """PyTorch eager in this process."""

    def __init__(self, torch, model, threads, folder):
        self.torch = torch
        torch.set_num_threads(threads)
        arrays = read_arrays(folder)
        heads = model.partition(":")[2]
        self.model = AdaLn(torch, int(heads), arrays) if heads else Pldm(torch, arrays)
        decayed, others = self.model.groups()
        groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.all = decayed + others
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
        self.step = 0

    def train(self, steps):
        """Loss of the last step, seconds on the clock, seconds of CPU."""
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step += 1
            for group in self.optimizer.param_groups:
                group["lr"] = self.model.rate(self.step)
            loss = self.model.loss()
            self.optimizer.zero_grad()
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(self.all, CLIP_NORM)
            self.optimizer.step()
        return loss.item(), time.perf_counter() - wall, time.process_time() - cpu


def read_arrays(folder):
    import numpy as np

    arrays, start = {}, 0
    numbers = np.fromfile(folder / "arrays.bin", dtype="<f4")
    for line in (folder / "arrays.txt").read_text().splitlines():
        name, shape = line.split(" ", 1)
        shape = json.loads(shape)
        count = math.prod(shape)
        arrays[name] = numbers[start : start + count].reshape(shape).copy()
        start += count
    assert start == len(numbers), (start, len(numbers))
    return arrays


def compare(torch, program, model, threads, rounds, steps):
    """One row of the table; whether the losses agree."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(program, model, threads, folder)
        # The first answer also says that the arrays are written.
        first = ours.train(1)[0]
        theirs = PyTorch(torch, model, threads, pathlib.Path(folder))
    losses = [(first, theirs.train(1)[0])] + [(ours.train(1)[0], theirs.train(1)[0]) for _ in range(4)]
    agree = all(abs(a - b) < AGREEMENT * b for a, b in losses)
    if not agree:
        print(f"{model}: the losses differ: {losses}", file=sys.stderr)
    times = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, side in [("ours", ours), ("theirs", theirs)]:
            _, wall, cpu = side.train(steps)
            times[name].append((1e3 * wall / steps, 1e3 * cpu / steps))
    ours.close()
    middle = lambda name, column: statistics.median(row[column] for row in times[name])
    ratio = lambda column: statistics.median(
        ours[column] / theirs[column] for ours, theirs in zip(times["ours"], times["theirs"])
    )
    print(
        f"| {model} | {threads} | {middle('ours', 1):.0f} ms | {middle('theirs', 1):.0f} ms | {ratio(1):.2f} "
        f"| {middle('ours', 0):.0f} ms | {middle('theirs', 0):.0f} ms | {ratio(0):.2f} |",
        flush=True,
    )
    return agree


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--models", nargs="+", default=["pldm", "adaln:3", "adaln:16"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()

    import torch

    print("| model | threads | ours, CPU | PyTorch, CPU | ratio | ours, clock | PyTorch, clock | ratio |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    agree = True
    for model in arguments.models:
        for threads in arguments.threads:
            agree &= compare(torch, arguments.program, model, threads, arguments.rounds, arguments.steps)
    print("torch", torch.__version__, os.uname().machine, f"{os.cpu_count()} cores", file=sys.stderr)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
