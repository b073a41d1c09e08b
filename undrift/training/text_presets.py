"""Recipes of distillations of text-to-image pipelines: a pipeline's own numbers in the presets of `presets`.

| preset | grid (trailing) | jump | teacher's solver | critic |
|---|---|---|---|---|
| `lcm` | 50 nodes | 1 node, 20 of 1000 indices, in 1 step | DDIM | none |
| `scott-paper` | 125 nodes | 3 nodes, 24 indices, in 3 steps | ER-SDE-5, order 2 | hinge, 0.4, rank 128, as printed |
| `scott` | 4 nodes, those of sampling | 1 node, in 4 steps | order 2, DDIM(0.2) | hinge, 0.01, frozen trunk |

There is no `scott-es`: the U-Net of a pipeline has no noise input.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..interop.diffusers_text import open_text_to_image
from ..registry import check_keys

__all__ = ["TEXT_PRESETS", "distilling_text"]

ER_SDE = {"name": "exponential", "order": 2, "tau": {"name": "er_sde_5"}}
TEXT_PRESETS: dict[str, dict[str, Any]] = {
    "lcm": {"method": {"nodes": 50, "jump": 1, "substeps": 1, "solver": {"name": "exponential", "order": 1}}},
    "scott-paper": {
        "method": {"nodes": 125, "jump": 3, "substeps": 3, "solver": ER_SDE},
        "critic": {"rank": 128, "weight": 0.4, "game": {"name": "hinge"}, "time": "published"},
    },
    "scott": {
        "method": {
            "nodes": 4, "jump": 1, "substeps": 4,
            "solver": {"name": "exponential", "order": 2, "tau": {"name": "ddim", "eta": 0.2}},
        },
        "critic": {"weight": 0.01, "game": {"name": "hinge"}, "time": "noised"},
    },
}  # fmt: skip
GUIDANCE = [3.0, 15.0]  # LCM's 2 to 14, which does not count the first
LOW_RANK_RATE = 1e-4


def distilling_text(
    teacher: str, preset: str, data: str | Path, common: Mapping[str, Any], *, rank: int = 0
) -> dict[str, Any]:
    """The recipe of a pipeline's student; everything in it may still be changed, see `recipe.override`.

    Arguments:
        teacher: the folder of the pipeline.
        preset: a name in `TEXT_PRESETS`.
        data: captioned images, in any layout of `data.captioned`.
        common: what all distillations share.
        rank: of a low-rank student; 0 for a whole one.

    Raises ValueError or FileNotFoundError in one line for what cannot be distilled.
    """
    check_keys([preset], TEXT_PRESETS, "preset of a pipeline")
    open_text_to_image(teacher)  # says what is wrong
    recipe = deepcopy(dict(common) | TEXT_PRESETS[preset])
    method = {"name": "scott", "teacher": str(teacher), "spacing": "trailing", "guidance": GUIDANCE}
    recipe["method"] = method | recipe["method"] | ({"rank": rank} if rank else {})
    recipe["optimizer"] |= {"lr": LOW_RANK_RATE if rank else 8e-6}
    recipe["critic_optimizer"] |= {"lr": 2e-5 if recipe.get("critic", {}).get("rank") else 1e-3}
    recipe["training"] |= {"steps": 10_000, "weights": "float32"}
    recipe["data"] = {"name": "captioned", "path": str(data), "pipeline": str(teacher), "batch": 16}
    recipe["preview"] |= {"every": 500}
    return recipe
