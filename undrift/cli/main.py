"""undrift COMMAND ...: find the command, parse, run, and say in one line what went wrong.

Exit codes: 0 done; 1 a defect of undrift; 2 something given was wrong, or a file of several failed; 130 interrupted, by
Ctrl-C or, a training, by any signal; 128 + n ended by signal n.
Only the module of the command at hand is imported, and torch not before its `run`.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from .. import __version__
from ..signals import Ended, ended_by_signal, hung_up
from .errors import expected, one_line, warned

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "demo": "restore the bundled photographs and see the difference",
    "restore": "restore photographs, or folders of them",
    "degrade": "degrade photographs in one of ten ways",
    "sample": "make images from noise",
    "edit": "fill in, colourise or interpolate images",
    "likelihood": "say how likely images are under a generator",
    "train": "train a model from a recipe, or go on with it",
    "distill": "make a student of one to four evaluations of a model",
    "evaluate": "measure a restorer or a generator",
    "convert": "make a model of official weights of Score SDE, IR-SDE, Refusion or DA-CLIP",
    "info": "explain a model, a recipe, a process or the steps of a run",
}


class _Parser(argparse.ArgumentParser):
    """An error is an exception like any other."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `undrift argv...` (default: what this process was given); the exit code."""
    try:
        with ended_by_signal(), warned():
            code = _command(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    except Ended as signal:
        return _failed(str(signal), 128 + signal.number)
    except Exception as error:
        if os.environ.get("UNDRIFT_DEBUG"):
            raise
        if expected(error):
            return _failed(one_line(error), 2)
        return _failed(f"{type(error).__name__}: {one_line(error)} (UNDRIFT_DEBUG=1 shows where)", 1)


def _failed(message: str, code: int) -> int:
    hung_up()
    print(f"undrift: {message}", file=sys.stderr)
    return code


def _command(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except SystemExit as stop:  # argparse, after --help and --version
        return int(stop.code or 0)


def _dispatch(argv: list[str]) -> int:
    overview = _overview()
    if not argv:
        overview.print_help()
        return 0
    name = argv[0]
    if name.startswith("-"):
        _known(overview, overview.parse_known_args(argv)[1])
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}: {_nearest(name, COMMANDS)}There are {', '.join(COMMANDS)}")
    module = import_module(f".{name}", __package__)
    parser = _Parser(prog=f"undrift {name}", description=f"{COMMANDS[name].capitalize()}.", allow_abbrev=False)
    module.add(parser)
    given, rest = parser.parse_known_intermixed_args(argv[1:])
    _known(parser, rest)
    return int(module.run(**vars(given)))


def _overview() -> _Parser:
    parser = _Parser(
        prog="undrift",
        description="Diffusion models as SDEs: restore photographs; make, edit and measure images.",
        epilog="undrift COMMAND --help explains one command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"undrift {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, about in COMMANDS.items():
        commands.add_parser(name, help=about)
    return parser


def _known(parser: _Parser, rest: Sequence[str]) -> None:
    """ValueError if anything was left over that the parser does not know."""
    if rest:
        unknown = next((text for text in rest if text.startswith("-")), rest[0]).partition("=")[0]
        hint = _nearest(unknown, parser._option_string_actions)
        parser.error(f"unknown {'option' if unknown.startswith('-') else 'argument'} {unknown!r}: {hint}".rstrip(": "))


def _nearest(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, known, 1)
    return f"did you mean {close[0]}? " if close else ""


if __name__ == "__main__":
    sys.exit(main())
