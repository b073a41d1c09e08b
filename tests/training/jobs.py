"""Runs a list of trainings, [[recipe, folder, settings], ...] in a JSON file: what a test starts on two processes."""

import json
import sys
from pathlib import Path

from undrift.training.run import train

if __name__ == "__main__":
    for recipe, folder, settings in json.loads(Path(sys.argv[1]).read_text()):
        result = train(recipe, folder, settings)
        print(folder, result.step, result.finished, flush=True)
