"""A pipeline's own images of prompts as a captioned folder, for a distillation that has no images.

prompted_samples("pipeline", ["a photo of a boot", ...], "runs/student/samples", 10_000)
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ..data import generator, write
from ..evaluation.prompted import pictures
from ..interop.diffusers_text import open_text_to_image
from .files import write_text

__all__ = ["prompted_samples"]

STEPS, SOLVER = 20, "ode-2c"
LIST = "metadata.jsonl"


def prompted_samples(
    teacher: str,
    prompts: Sequence[str],
    folder: str | Path,
    count: int,
    guidance: float,
    seed: int = 0,
    batch: int = 16,
) -> Path:
    """`folder`, with `count` images of the teacher, all prompts in turn, and their list written last.

    Image i depends on (seed, i) and its prompt alone; those that are there are kept. Raises ValueError, in one line,
    for a folder that holds another set.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = {"teacher": str(teacher), "count": count, "guidance": guidance, "seed": seed, "prompts": len(prompts)}
    told = folder / "made.json"
    if told.is_file() and json.loads(told.read_text(encoding="utf-8")) != made:
        raise ValueError(f"{folder}: holds other samples than {made}: remove it, or give another --out")
    write_text(told, json.dumps(made))
    chosen = [prompts[i % len(prompts)] for i in range(count)]
    if (folder / LIST).is_file():
        return folder
    parts = open_text_to_image(teacher)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parts.to(device)
    missing = [i for i in range(count) if not _file(folder, i).is_file()]
    with tqdm(total=len(missing), unit="sample", disable=None) as bar:
        for first in range(0, len(missing), batch):
            numbers = missing[first : first + batch]
            seeds = [generator("teacher", seed, i).initial_seed() for i in numbers]
            images = pictures(parts, [chosen[i] for i in numbers], seeds, f"{SOLVER}:{STEPS}", guidance)
            for i, image in zip(numbers, images.cpu(), strict=True):
                write(_file(folder, i), image)
            bar.update(len(numbers))
    lines = [json.dumps({"file_name": _file(folder, i).name, "text": text}) for i, text in enumerate(chosen)]
    write_text(folder / LIST, "\n".join(lines) + "\n")
    return folder


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.png"
