"""Rows of an evaluation that several processes measure: a file for each, until the first process has read them all."""

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import final

from ..evaluation import Results
from ..training.files import write_json

__all__ = ["Rows"]


@final
class Rows:
    """`<folder>/rows`, of one stamp: rows of another, or torn ones, are as if they were not there."""

    def __init__(self, folder: Path, results: Results) -> None:
        self.home, self.folder, self.results = folder / "rows", folder, results
        known = {key: value for key, value in results.stamp.items() if key != "data"}
        self.stamp = sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def keep(self, task: str, setting: str, values: dict[str, float]) -> None:
        """Save a row of this process."""
        self.home.mkdir(exist_ok=True)
        data = self.results.stamp["data"].get(task)
        entry = {"stamp": self.stamp, "data": data, "task": task, "setting": setting, "values": values}
        name = sha256(f"{task} {setting}".encode()).hexdigest()[:16]
        write_json(self.home / f"{name}.json", entry)

    def collect(self) -> None:
        """Put all rows into results.json, and away. One process only, while no other writes."""
        files = sorted(self.home.glob("*.json"))
        for file in files:
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(file.read_bytes())
                same = entry["stamp"] == self.stamp and entry["data"] == self.results.stamp["data"].get(entry["task"])
                if same:
                    self.results.add(entry["task"], entry["setting"], entry["values"])
        if files:
            self.results.save(self.folder)
        for file in files:
            file.unlink()
        with suppress(OSError):
            self.home.rmdir()
