"""A teacher's own images as a data set, for a distillation that has no other.

teacher_samples("fashion", "runs/student/samples.npz", 10_000)
"""

import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..data import generator
from ..generation import generate
from .checkpoint import load, read_card
from .files import replacing

__all__ = ["teacher_samples"]

STEPS, SOLVER = 20, "ode-2c"
HOLD_OUT = 10  # every tenth is not trained on


def teacher_samples(teacher: str, path: str | Path, count: int = 10_000, seed: int = 0, batch: int = 100) -> Path:
    """`path`, an .npz as `data.read_labelled` wants it, with `count` images of the teacher, all classes in turn.

    Made once, whole or not at all: where the file is there it is taken. Image i depends on (seed, i) and its class
    alone. Raises ValueError, in one line, for a file that holds other samples.
    """
    if count < 2 * HOLD_OUT:
        raise ValueError(f"samples = {count}: need at least {2 * HOLD_OUT}")
    path, facts = Path(path), read_card(teacher)["training"]
    made = json.dumps({"teacher": str(teacher), "count": count, "seed": seed, "solver": f"{SOLVER}:{STEPS}"})
    if path.is_file():
        _check(path, made)
        return path
    shape, classes = facts.get("shape"), len(facts.get("classes") or [])
    if not shape:
        raise ValueError(f"{teacher}: its model.json names no shape of images under training: [C, H, W] wanted")
    denoiser, space = load(teacher)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    label = torch.arange(count) % max(classes, 1)
    images = list[np.ndarray]()
    with tqdm(total=count, unit="sample", disable=None) as bar:
        for made_now in generate(
            denoiser.to(device), denoiser.process, space, shape=shape, device=device, batch=batch,
            seeds=[generator("teacher", seed, i).initial_seed() for i in range(count)],
            label=label if classes else None, steps=STEPS, solver=SOLVER,
        ):  # fmt: skip
            images.append(made_now.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
            bar.update(len(made_now))
    x, y = np.concatenate(images), label.numpy()
    # Blocks of all classes are held out in turn, so that both parts know every class.
    held = np.arange(count) // max(classes, 1) % HOLD_OUT == HOLD_OUT - 1
    parts = {"x_train": x[~held], "y_train": y[~held], "x_test": x[held], "y_test": y[held]}
    with replacing(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, made=np.array(made), **parts)
    return path


def _check(path: Path, made: str) -> None:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = str(file["made"])
    except Exception as error:  # a damaged zip raises whatever its first wrong byte leads to
        raise ValueError(f"{path}: not samples of a teacher ({' '.join(str(error).split())}): remove it") from None
    if found != made:
        raise ValueError(f"{path}: holds other samples, {found}, than {made}: remove it, or give another --out")
