"""Arguments that several commands share. Imports argparse only."""

import argparse
from collections.abc import Callable

__all__ = ["add_machine", "add_sampling", "whole"]


def whole(low: int, high: int = 2**62) -> Callable[[str], int]:
    """A parser of whole numbers in [low, high]."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            bounds = f"at least {low}" if value < low or high == 2**62 else f"at most {high}"
            raise argparse.ArgumentTypeError(f"{text!r}: need a whole number, {bounds}")
        return value

    return parse


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """--model, --steps, --solver, --seed and --tile."""
    parser.add_argument("--model", metavar="NAME", default="universal", help="a bundled model or a folder (universal)")
    parser.add_argument(
        "--steps", metavar="N", type=whole(1), help="network evaluations (8; students 2); 1, 2: by its student"
    )
    parser.add_argument("--solver", metavar="NAME", help="see `undrift info` for all (ode-2; students consistency)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of the noise (0)")
    parser.add_argument(
        "--tile", metavar="PX", type=whole(32), default=512, help="side of the tiles of large photographs (512)"
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """--device and --threads."""
    parser.add_argument("--device", metavar="NAME", default="auto", help="cpu, cuda, ... (auto: a GPU if there is one)")
    parser.add_argument("--threads", metavar="N", type=whole(0), default=0, help="CPU threads (0: torch's choice)")
