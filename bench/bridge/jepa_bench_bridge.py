"""Serves one simulator to jepa-bench over a pipe.

    python jepa_bench_bridge.py metaworld '{"task": "reach-v3", "frame_size": 224}'
    python jepa_bench_bridge.py gymnasium '{"id": "Pusher-v5"}'

jepa-bench starts one such process per environment and talks to it over standard input and output; docs/bridge.md
describes the messages. What the simulator prints goes to standard error. The process ends when its input does.

An adapter is a class with the methods of `Adapter` and a line in ADAPTERS. Nothing but the standard library is imported
before an adapter asks for it.
"""

import json
import os
import platform
import struct
import sys

# Changes whenever a message changes its meaning.
PROTOCOL = 1
# Bytes of a header; longer ones are not messages.
LONGEST_HEADER = 1 << 20
TYPE_CODES = {"f64": "d", "f32": "f", "u8": "B"}


class Refused(Exception):
    """A request that cannot be carried out; the process stays usable."""


class Array:
    """Numbers as they travel: type name, shape, bytes."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, list(shape), bytes(data)

    @staticmethod
    def of_floats(values, dtype="f64"):
        values = [float(value) for value in values]
        return Array(dtype, [len(values)], struct.pack(f"<{len(values)}{TYPE_CODES[dtype]}", *values))

    def floats(self):
        code = TYPE_CODES[self.dtype]
        return list(struct.unpack(f"<{len(self.data) // struct.calcsize('<' + code)}{code}", self.data))


# -- messages ---------------------------------------------------------------------------------------------------------


def read_exactly(stream, count):
    """`count` bytes, or None at the end of the stream."""
    parts = []
    while count > 0:
        part = stream.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_message(stream):
    """The next header and its arrays by name, or None when the other side is gone."""
    prefix = read_exactly(stream, 4)
    if prefix is None:
        return None
    (length,) = struct.unpack("<I", prefix)
    if length > LONGEST_HEADER:
        raise SystemExit(f"a header of {length} bytes is none of this protocol")
    text = read_exactly(stream, length)
    if text is None:
        return None
    header = json.loads(text)
    arrays = {}
    for entry in header.get("arrays", []):
        size = struct.calcsize("<" + TYPE_CODES[entry["dtype"]])
        for side in entry["shape"]:
            size *= side
        data = read_exactly(stream, size)
        if data is None:
            return None
        arrays[entry["name"]] = Array(entry["dtype"], entry["shape"], data)
    return header, arrays


def write_message(stream, header, arrays):
    header = dict(header)
    header["arrays"] = [{"name": name, "dtype": a.dtype, "shape": a.shape} for name, a in arrays.items()]
    text = json.dumps(header).encode()
    stream.write(struct.pack("<I", len(text)) + text)
    for array in arrays.values():
        stream.write(array.data)
    stream.flush()


# -- adapters ---------------------------------------------------------------------------------------------------------


class Adapter:
    """What a simulator has to offer. States and snapshots are lists of floats."""

    #: Numbers in a state, in proprio and in an action; rows and columns of a frame; whether there is a scripted expert.
    state_width = proprio_width = action_width = frame_size = 0
    has_expert = False

    def versions(self):
        """Versions of the libraries that move a number."""
        return {}

    def episode(self, seed):
        """Initial state, goal state, and the actions that lead there (empty: a reset to the goal shows it)."""
        raise NotImplementedError

    def reset_to(self, state):
        """Goes to a state that `episode` gave, or that was reached from one."""
        raise NotImplementedError

    def step(self, action):
        """Applies an action; returns the reward."""
        raise NotImplementedError

    def state(self):
        raise NotImplementedError

    def proprio(self):
        raise NotImplementedError

    def snapshot(self):
        """Everything that decides what follows."""
        return self.state()

    def restore(self, snapshot):
        self.reset_to(snapshot)

    def render(self, size):
        """Pixels of a square frame, `[size, size, 3]` bytes."""
        raise NotImplementedError

    def expert(self):
        """The action of the scripted expert in the present state."""
        raise Refused("this environment has no scripted expert")


class Metaworld(Adapter):
    """One task of Metaworld v3 (evaluation.md section 1.4).

    A state is the observation of 39 numbers (the first 4 are proprio, the last 3 the place to reach), whether the task
    counts as solved, the seed, the steps made, and the simulator's own state. A seed draws the place of things with its
    second of two resets, then one action of zeros is applied. The goal is where the scripted expert ends.
    """

    OBSERVATION = 39
    TIME_LIMIT = 100
    CAMERA = "corner2"
    CAMERA_POSITION = (0.75, 0.075, 0.7)
    has_expert = True
    proprio_width, action_width = 4, 4

    def __init__(self, task="reach-v3", frame_size=224):
        import gymnasium
        import metaworld
        import mujoco
        import numpy
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS as classes
        from metaworld.policies import ENV_POLICY_MAP as policies

        self.libraries = {"gymnasium": gymnasium, "mujoco": mujoco, "numpy": numpy}
        self.mujoco, self.numpy = mujoco, numpy
        if task not in classes:
            raise Refused(f"Metaworld has no task `{task}`; it has {', '.join(sorted(classes))}")
        self.frame_size = frame_size
        # The expert acts in an environment of its own, so that it leaves no trace in the agent's.
        self.env, self.other = (self._make(classes[task]) for _ in range(2))
        self.policy = policies[task]()
        parts = mujoco.mjtState
        self.parts = (
            parts.mjSTATE_FULLPHYSICS.value
            | parts.mjSTATE_WARMSTART.value
            | parts.mjSTATE_CTRL.value
            | parts.mjSTATE_EQ_ACTIVE.value
            | parts.mjSTATE_MOCAP_POS.value
            | parts.mjSTATE_MOCAP_QUAT.value
        )
        self.physics_width = mujoco.mj_stateSize(self.env.model, self.parts)
        self.state_width = self.OBSERVATION + 3 + self.physics_width
        self.seed = None
        self._begin(0)

    def _make(self, environment):
        """The variant whose observation shows the goal, with the camera where the released data have it."""
        side = self.frame_size
        env = environment(render_mode="rgb_array", camera_name=self.CAMERA, height=side, width=side)
        env._partially_observable = False
        del env.sawyer_observation_space
        env._set_task_called = True
        env.model.cam_pos[env.model.camera(self.CAMERA).id] = self.CAMERA_POSITION
        return env

    def versions(self):
        found = {name: library.__version__ for name, library in self.libraries.items()}
        from importlib.metadata import version

        found["metaworld"] = version("metaworld")
        return found

    def _begin(self, seed):
        """Draws the things of a seed and makes the first, empty step."""
        env = self.env
        env._freeze_rand_vec, env.seeded_rand_vec = False, True
        env.seed(seed)
        env.reset()
        env._freeze_rand_vec = True
        self.seed, self.success = seed, 0.0
        self.observation = None
        self.step([0.0] * self.action_width)

    def episode(self, seed):
        if seed >= 1 << 32:
            raise Refused("seeds are below 2^32")
        self._begin(seed)
        init = self.state()
        other = self.other
        other._last_rand_vec, other._freeze_rand_vec = self.env._last_rand_vec.copy(), True
        observation, _ = other.reset()
        success = 0.0
        for _ in range(self.TIME_LIMIT):
            action = self.policy.get_action(observation)
            observation, _, _, _, info = other.step(self._single(action))
            success = float(info["success"])
        goal = self._pack(other, observation, success, seed)
        return init, goal, []

    def _single(self, action):
        """Actions reach the simulator in single precision, as the released loop hands them over."""
        return self.numpy.asarray(action, dtype=self.numpy.float32)

    def step(self, action):
        self.observation, reward, _, _, info = self.env.step(self._single(action))
        self.success = float(info["success"])
        return float(reward)

    def _pack(self, env, observation, success, seed):
        physics = self.numpy.empty(self.physics_width)
        self.mujoco.mj_getState(env.model, env.data, physics, self.parts)
        own = [success, float(seed), float(env.curr_path_length)]
        return [*map(float, observation), *own, *map(float, physics)]

    def state(self):
        return self._pack(self.env, self.observation, self.success, self.seed)

    def proprio(self):
        return self.observation[: self.proprio_width]

    def reset_to(self, state):
        numbers = self.numpy.asarray(state, dtype=self.numpy.float64)
        success, seed, steps = numbers[self.OBSERVATION : self.OBSERVATION + 3]
        if not (0 <= seed < 1 << 32 and seed == int(seed) and 0 <= steps <= self.env.max_path_length):
            raise Refused("the state is none that this environment gave")
        if self.seed != int(seed):
            # What Metaworld remembers of a reset outside the simulator.
            self._begin(int(seed))
        env = self.env
        self.mujoco.mj_setState(env.model, env.data, numbers[self.OBSERVATION + 3 :], self.parts)
        # Positions of everything follow from the state; what a step begins with is put back after it.
        self.mujoco.mj_forward(env.model, env.data)
        self.mujoco.mj_setState(env.model, env.data, numbers[self.OBSERVATION + 3 :], self.parts)
        env.curr_path_length = int(steps)
        self.observation = numbers[: self.OBSERVATION].copy()
        env._prev_obs = self.observation[:18].copy()
        self.success = float(success)

    def render(self, size):
        if size != self.frame_size:
            raise Refused(f"frames have {self.frame_size} rows, not {size}; it is a setting")
        # The camera hangs upside down; the released data are turned over once more.
        return self.numpy.ascontiguousarray(self.env.render()[::-1]).tobytes()

    def expert(self):
        return self.policy.get_action(self.observation)


class Gymnasium(Adapter):
    """Any registered Gymnasium environment with vector observations and actions that renders `rgb_array`.

    A state is the observation, the seed, and the number of steps; the simulator's own state is hidden, so only states
    without steps can be gone to directly. A snapshot holds the actions since the reset and is gone to by replaying them.
    The goal of a seed is where random actions lead.
    """

    GOAL_STEPS = 30

    def __init__(self, id="", frame_size=224, goal_steps=GOAL_STEPS):
        import gymnasium
        import numpy

        self.numpy, self.gymnasium = numpy, gymnasium
        self.env = gymnasium.make(id, render_mode="rgb_array")
        for name, space in (("actions", self.env.action_space), ("observations", self.env.observation_space)):
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise Refused(f"`{id}` has {name} that are no vectors: {space}")
        self.frame_size, self.goal_steps = frame_size, goal_steps
        self.action_width = self.env.action_space.shape[0]
        self.proprio_width = self.env.observation_space.shape[0]
        self.state_width = self.proprio_width + 2
        self._begin(0)

    def versions(self):
        return {"gymnasium": self.gymnasium.__version__, "numpy": self.numpy.__version__}

    def _begin(self, seed):
        self.observation, _ = self.env.reset(seed=seed)
        self.seed, self.actions = seed, []

    def episode(self, seed):
        if seed >= 1 << 32:
            raise Refused("seeds are below 2^32")
        self._begin(seed)
        init = self.state()
        self.env.action_space.seed(seed)
        way = []
        for _ in range(self.goal_steps):
            action = self.env.action_space.sample()
            way.extend(map(float, action))
            self.step(action)
        return init, self.state(), way

    def step(self, action):
        action = self.numpy.asarray(action, dtype=self.env.action_space.dtype)
        space = self.env.action_space
        self.observation, reward, *_ = self.env.step(self.numpy.clip(action, space.low, space.high))
        self.actions.extend(map(float, action))
        return float(reward)

    def state(self):
        steps = len(self.actions) // max(self.action_width, 1)
        return [*map(float, self.observation), float(self.seed), float(steps)]

    def proprio(self):
        return self.observation

    def reset_to(self, state):
        seed, steps = state[-2:]
        if not (0 <= seed < 1 << 32 and seed == int(seed)):
            raise Refused("the state is none that this environment gave")
        if steps != 0:
            raise Refused("only states at the beginning of an episode can be gone to")
        self._begin(int(seed))

    def snapshot(self):
        return [*self.actions, float(self.seed)]

    def restore(self, snapshot):
        *actions, seed = snapshot
        self._begin(int(seed))
        for at in range(0, len(actions), self.action_width):
            self.step(actions[at : at + self.action_width])

    def render(self, size):
        frame = self.env.render()
        rows, columns = (self.numpy.arange(size) * side // size for side in frame.shape[:2])
        return self.numpy.ascontiguousarray(frame[rows][:, columns]).tobytes()


ADAPTERS = {"metaworld": Metaworld, "gymnasium": Gymnasium}


# -- serving ----------------------------------------------------------------------------------------------------------


def answer(adapter, header, arrays):
    """Carries out one request; returns the fields and arrays of the reply."""
    op = header.get("op")
    fields, out = {}, {}
    if op == "hello":
        fields = {
            "protocol": PROTOCOL,
            "state_width": adapter.state_width,
            "proprio_width": adapter.proprio_width,
            "action_width": adapter.action_width,
            "frame_size": adapter.frame_size,
            "has_expert": adapter.has_expert,
            "versions": {"python": platform.python_version(), **adapter.versions()},
        }
    elif op == "episode":
        init, goal, way = adapter.episode(int(header["seed"]))
        out = {name: Array.of_floats(values) for name, values in (("init", init), ("goal", goal), ("way", way))}
        return fields, out
    elif op == "reset":
        adapter.reset_to(arrays["state"].floats())
    elif op == "restore":
        adapter.restore(arrays["snapshot"].floats())
    elif op == "step":
        fields["reward"] = adapter.step(arrays["action"].floats())
    elif op == "snapshot":
        return fields, {"snapshot": Array.of_floats(adapter.snapshot())}
    elif op == "expert":
        return fields, {"action": Array.of_floats(adapter.expert())}
    elif op == "render":
        size = int(header["size"])
        return fields, {"rgb": Array("u8", [size, size, 3], adapter.render(size))}
    else:
        raise Refused(f"unknown request `{op}`")
    out = {"state": Array.of_floats(adapter.state()), "proprio": Array.of_floats(adapter.proprio(), "f32")}
    return fields, out


def serve(adapter, requests, replies):
    """Answers until the other side is gone or says `close`."""
    while (message := read_message(requests)) is not None:
        header, arrays = message
        if header.get("op") == "close":
            break
        try:
            fields, out = answer(adapter, header, arrays)
            fields["ok"] = True
        except (Refused, KeyError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}" if not isinstance(error, Refused) else str(error)
            fields, out = {"ok": False, "error": detail}, {}
        write_message(replies, {"id": header.get("id"), **fields}, out)


def main(arguments, adapters=ADAPTERS):
    # Simulators print; the pipe belongs to the protocol.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    name, settings = arguments[0], json.loads(arguments[1]) if len(arguments) > 1 else {}
    try:
        if name not in adapters:
            raise Refused(f"no adapter `{name}`; there are {', '.join(sorted(adapters))}")
        adapter = adapters[name](**settings)
    except ImportError as error:
        raise SystemExit(f"cannot import `{error.name}`: {error}") from None
    except (Refused, TypeError) as error:
        raise SystemExit(str(error)) from None
    serve(adapter, sys.stdin.buffer, replies)


if __name__ == "__main__":
    main(sys.argv[1:])
