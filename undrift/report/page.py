"""A report as one HTML file: style, script and pictures inside, nothing fetched, readable without the script.

The markup is well-formed XML too, so that a test, or any parser, can hold it to account.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import final

import numpy as np
from PIL import Image
from torch import Tensor

__all__ = ["Comparison", "facts", "figure", "gallery", "page", "picture", "section", "sliders"]


@final
@dataclass(frozen=True)
class Comparison:
    """One image against others of its size: (3, H, W) in [0, 1], each with its label.

    Arguments:
        title, note: below the picture.
        before: at the left of the slider.
        afters: at its right, one at a time; the reader chooses.
    """

    title: str
    note: str
    before: tuple[str, Tensor]
    afters: Sequence[tuple[str, Tensor]]


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """The whole document; `sections` are markup, `title` and `lead` text."""
    style, script = (
        (resources.files(__package__) / name).read_text(encoding="utf-8") for name in ("style.css", "slider.js")
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>\n{style}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>\n'
        + "\n".join(sections)
        + f"</main><script>\n{script}</script></body></html>\n"
    )


def section(title: str, *blocks: str, note: str = "") -> str:
    """`blocks` are markup; `note` is text under the title."""
    about = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{about}{''.join(blocks)}</section>"


def facts(rows: Mapping[str, str]) -> str:
    """Names and what they are."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items()) + "</dl>"


def figure(markup: str) -> str:
    return f'<figure class="wide">{markup}</figure>'


def sliders(comparisons: Sequence[Comparison]) -> str:
    """All comparisons, as many beside one another as there is room for."""
    return f'<div class="comparisons">{"".join(map(_slider, comparisons))}</div>'


def gallery(images: Mapping[str, Tensor]) -> str:
    """Named images (3, H, W) in [0, 1], as many beside one another as there is room for."""
    shown = (
        f'<figure class="compare"><img class="pixels" alt="{escape(name)}" src="{_uri(image)}"/>'
        f"<figcaption><b>{escape(name)}</b></figcaption></figure>"
        for name, image in images.items()
    )
    return f'<div class="comparisons">{"".join(shown)}</div>'


def picture(name: str, image: Tensor) -> str:
    """One image (3, H, W) in [0, 1] over the whole width."""
    return figure(f'<img alt="{escape(name)}" src="{_uri(image)}"/><figcaption><b>{escape(name)}</b></figcaption>')


def _slider(c: Comparison) -> str:
    height, width = c.before[1].shape[-2:]
    shown = [
        f'<img class="after" alt="{escape(name)}" src="{_uri(image)}"{hidden}/>'
        for (name, image), hidden in zip(c.afters, ["", *[' hidden=""'] * len(c.afters)], strict=False)
    ]
    choices = [
        f'<button type="button" aria-pressed="{"true" if i == 0 else "false"}">{escape(name)}</button>'
        for i, (name, _) in enumerate(c.afters)
    ]
    return (
        f'<figure class="compare"><div class="view" style="aspect-ratio:{width}/{height}">{"".join(shown)}'
        f'<img class="before" alt="{escape(c.before[0])}" src="{_uri(c.before[1])}"/><i></i>'
        f'<span class="left">{escape(c.before[0])}</span><span class="right">{escape(c.afters[0][0])}</span>'
        f'<input type="range" min="0" max="100" step="0.5" value="50" aria-label="{escape(c.title)}: how much of '
        f'{escape(c.before[0])} is shown"/></div><figcaption><b>{escape(c.title)}</b> <span>{escape(c.note)}</span>'
        f'<div class="choices">{"".join(choices)}</div></figcaption></figure>'
    )


def _uri(image: Tensor) -> str:
    """A JPEG of quality 95 without chroma subsampling, inside the page."""
    pixels = image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "JPEG", quality=95, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
