"""Feed undrift damaged and hostile files, and watch: no traceback, no hang, no half-written file, bounded memory.

    python benchmarks/fuzz.py --cases 10000 --seed 0

A case is a command on one file with a few bytes, values or lines changed: an image, the weights or the description of
a model, a recipe, a manifest. It must end with 0, or with 2 and one line per failure, in bounded time and memory;
whatever it wrote must be whole. All cases run in this process. A case that fails is named by its number, and
`--only NUMBER` runs it again.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import undrift
from undrift.cli.main import main
from undrift.cli.manifest import FILE
from undrift.networks import UNet

SECONDS = 20  # of a case
HEADROOM = 3 << 30  # bytes of address space that a case may take
SUFFIXES = ("png", "jpg", "webp", "tif", "bmp", "gif", "ppm")
HOSTILE = [
    None, True, -1, 0, 1, 2, 3.5, 1e308, -1e308, float("nan"), float("inf"), 10**6, 10**12, 2**63, -(2**63), 10**40,
    "", "x", "\x00", "\n", "../../etc/passwd", "é" * 300, "unet", [], [[]], [1] * 50, [0, -1], {}, {"name": "vp"},
    {"name": 3}, {"a": {"b": []}}, [10**9], [1e9, 2], "1e999", "__class__",
]  # fmt: skip

RECIPE = """
[process]
name = "vp"

[prediction]
name = "velocity"
scale = 0.5

[space]
name = "pixels"

[density]
name = "uniform_lambda"

[weighting]
name = "balanced"

[network]
name = "unet"
channels = [8, 8]
blocks = [1, 1]
in_channels = 1
cond_channels = 0
classes = 2
embedding = 8

[data]
name = "labelled"
path = "data.npz"
batch = 2

[optimizer]
name = "adamw"
lr = 1e-3

[training]
steps = 1
"""


class Slow(BaseException):
    """A case took too long. No `Exception`: nobody is to catch it."""


def mutated(data: bytes, choose: random.Random) -> bytes:
    """Some bytes flipped, cut out, repeated, put in, or an end missing."""
    out = bytearray(data)
    for _ in range(choose.choice([1, 1, 2, 4, 16])):
        at = choose.randrange(len(out) + 1)
        how = choose.randrange(7)
        if how == 0 and out:
            out[at % len(out)] ^= 1 << choose.randrange(8)
        elif how == 1 and out:
            out[at % len(out)] = choose.choice([0, 1, 127, 128, 255])
        elif how == 2:
            del out[at : at + choose.choice([1, 4, 64, len(out)])]
        elif how == 3:
            out[at:at] = out[at : at + choose.choice([1, 4, 64])]
        elif how == 4:
            out[at:at] = bytes(choose.randrange(256) for _ in range(choose.choice([1, 4, 32])))
        elif how == 5:
            value = struct.pack(choose.choice("<>") + "I", choose.choice([0, 1, 65535, 2**31 - 1, 2**32 - 1]))
            out[at : at + 4] = value
        elif how == 6 and choose.random() < 0.3:
            out = out[:at]
    return bytes(out)


def bent(tree: object, choose: random.Random) -> object:
    """A JSON value with one value within replaced, dropped or added."""
    if isinstance(tree, dict) and tree and choose.random() < 0.85:
        key = choose.choice(list(tree))
        if choose.random() < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        if choose.random() < 0.1:
            return {**tree, choose.choice(["x", "name", "", "scale"]): choose.choice(HOSTILE)}
        return {**tree, key: bent(tree[key], choose)}
    if isinstance(tree, list) and tree and choose.random() < 0.5:
        i = choose.randrange(len(tree))
        return [*tree[:i], bent(tree[i], choose), *tree[i + 1 :]]
    return choose.choice(HOSTILE)


class Bench:
    """The whole files in a folder, and the cases made of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        torch.manual_seed(0)
        process, prediction = undrift.MeanReverting(lam=10 / 255), undrift.prediction.Data(0.05)
        network = UNet(channels=(4, 4), blocks=(1, 1), embedding=4)
        undrift.save(root / "model", undrift.Denoiser(network, process, prediction, scale=0.25), undrift.Residual())
        pixels = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
        (root / "whole").mkdir()
        for suffix in SUFFIXES:
            exif = Image.Exif()
            exif[0x0112] = 6
            options = {"exif": exif} if suffix in ("jpg", "png", "webp") else {}
            Image.fromarray(pixels).save(root / "whole" / f"a.{suffix}", **options)
        Image.fromarray(pixels).save(root / "one.png")
        Image.fromarray(pixels).save(root / "two.png")
        np.savez(root / "data.npz", x_train=pixels[..., :1].reshape(-1, 1, 4, 3), y_train=np.zeros(14, int))
        with contextlib.redirect_stdout(io.StringIO()):
            words = ["degrade", str(root / "one.png"), str(root / "two.png"), "--task", "noisy", "-o", str(root / "o")]
            assert main(words) == 0
        self.manifest = (root / "o" / FILE).read_bytes()
        self.cases: list[Callable[[Path, random.Random], list[str]]] = [
            self.image, self.image, self.weights, self.description, self.recipe, self.kept,
        ]  # fmt: skip

    def image(self, at: Path, choose: random.Random) -> list[str]:
        suffix = choose.choice(SUFFIXES)
        data = mutated((self.root / "whole" / f"a.{suffix}").read_bytes(), choose)
        (at / f"a.{choose.choice([suffix, suffix, *SUFFIXES])}").write_bytes(data)
        shutil.copy(self.root / "one.png", at / "whole.png")
        if choose.random() < 0.7:
            return ["degrade", str(at), "--task", "noisy", "-o", str(at / "out")]
        return ["restore", str(at), "--model", str(self.root / "model"), "--steps", "1", "-o", str(at / "out")]

    def _model(self, at: Path, choose: random.Random) -> list[str]:
        if choose.random() < 0.5:
            return ["info", str(at / "m")]
        one = str(self.root / "one.png")
        return ["restore", one, "--model", str(at / "m"), "--steps", "1", "-o", str(at / "out")]

    def weights(self, at: Path, choose: random.Random) -> list[str]:
        shutil.copytree(self.root / "model", at / "m")
        file = at / "m" / "weights.safetensors"
        data = file.read_bytes()
        size = 8 + struct.unpack("<Q", data[:8])[0]
        head = mutated(data[:size], choose)  # the header above all: the rest is numbers
        file.write_bytes(head + data[size:] if choose.random() < 0.7 else mutated(data, choose))
        return self._model(at, choose)

    def description(self, at: Path, choose: random.Random) -> list[str]:
        shutil.copytree(self.root / "model", at / "m")
        file = at / "m" / "model.json"
        if choose.random() < 0.3:
            file.write_bytes(mutated(file.read_bytes(), choose))
        elif choose.random() < 0.05:
            file.write_text("[" * choose.choice([10, 100_000]))
        else:
            file.write_text(json.dumps(bent(json.loads(file.read_text()), choose)))
        return self._model(at, choose)

    def recipe(self, at: Path, choose: random.Random) -> list[str]:
        text = RECIPE.replace("data.npz", str(self.root / "data.npz"))
        if choose.random() < 0.5:
            (at / "r.toml").write_bytes(mutated(text.encode(), choose))
        else:
            lines = text.splitlines()
            places = [i for i, line in enumerate(lines) if "=" in line]
            for i in choose.sample(places, choose.choice([1, 1, 2])):
                value = choose.choice(HOSTILE)
                lines[i] = f"{lines[i].partition('=')[0]}= {json.dumps(value).replace('null', '[[1]]')}"
            (at / "r.toml").write_text("\n".join(lines))
        return ["info", str(at / "r.toml")]

    def kept(self, at: Path, choose: random.Random) -> list[str]:
        shutil.copytree(self.root / "o", at / "out")
        data = mutated(self.manifest, choose)
        if choose.random() < 0.5:
            entries = [json.loads(line) for line in self.manifest.splitlines() if line]
            data = "\n".join(json.dumps(bent(entry, choose)) for entry in entries).encode()
        (at / "out" / FILE).write_bytes(data)
        return [
            "degrade",
            *(str(self.root / f"{n}.png") for n in ("one", "two")),
            "--task",
            "noisy",
            "-o",
            str(at / "out"),
        ]

    def run(self, seed: int, number: int) -> tuple[str, str]:
        """(kind, what went wrong or "") of a case."""
        choose = random.Random(f"{seed}/{number}")
        case = self.cases[number % len(self.cases)]
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            words = case(Path(folder), choose)
            before = set(self.root.iterdir())
            os.environ["UNDRIFT_MEGAPIXELS"] = "1"  # a header may truly ask for the work of a minute
            code, errors = called(words)
            wrong = verdict(code, errors) or "; ".join(unwhole(Path(folder)))
            if set(self.root.iterdir()) != before:
                wrong = wrong or "a file outside the output folder"
        return case.__name__, f"{' '.join(words)}: {wrong}" if wrong else ""


def called(words: list[str]) -> tuple[int, list[str]]:
    """The exit code and the lines of stderr; -1 for what escaped, -2 for a hang."""

    def late(*_: object) -> None:
        raise Slow

    out, errors = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(words)
    except Slow:
        return -2, [f"longer than {SECONDS} s"]
    except BaseException as error:
        return -1, [repr(error)]
    finally:
        signal.alarm(0)
    return code, errors.getvalue().splitlines()


def verdict(code: int, errors: list[str]) -> str:
    if code not in (0, 2):
        return f"exit code {code}: {' | '.join(errors)[:500]}"
    if bool(errors) != (code == 2) or any(not line.startswith("undrift: ") for line in errors):
        return f"exit code {code} and {errors[:5]}"
    if any(not line.isprintable() or len(line) > 2000 for line in errors):
        return f"not a readable line: {errors[0][:200]!r}"
    return ""


def unwhole(folder: Path) -> Iterator[str]:
    """Files of the output that are not whole."""
    for path in (folder / "out").rglob("*"):
        if path.name.endswith(".part"):
            yield f"a temporary file {path.name}"
        elif path.suffix == ".png":
            try:
                with Image.open(path) as picture:
                    picture.load()
            except Exception as error:
                yield f"{path.name}: {error}"


def bounded() -> None:
    """More memory than HEADROOM beyond what is mapped now cannot be had."""
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + HEADROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))


def command() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began, wrong, kinds = time.monotonic(), 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bounded()
        for number in range(given.cases) if given.only is None else [given.only]:
            kind, trouble = bench.run(given.seed, number)
            kinds[kind] += 1
            if trouble:
                wrong += 1
                print(f"case {number}, {kind}: {trouble}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    print(f"{sum(kinds.values())} cases, seed {given.seed} ({told}): {wrong} wrong; "
          f"{time.monotonic() - began:.0f} s, at most {peak:.2f} GiB")  # fmt: skip
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(command())
