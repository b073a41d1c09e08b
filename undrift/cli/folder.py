"""An output folder, found to be writable before hours of work go into it."""

import tempfile
from pathlib import Path

__all__ = ["own", "writable"]


def own(folder: Path) -> Path:
    """`writable`, for a model: empty, or with an earlier model of ours, which is replaced; ValueError for another."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise ValueError(f"{folder}: there are other files in it: name a new folder, for the model")
    return writable(folder)


def writable(folder: Path) -> Path:
    """The folder, made where missing; OSError in one line where that, or writing to it, is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise OSError(f"cannot write to the folder {folder}: {why}") from None
