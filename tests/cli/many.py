"""Run as one of several processes: commands, lists of words in a JSON file, one after another."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from undrift.cli.main import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")  # once: a command alone would make and end its own
    for words in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        code = main(words)
        if code not in (0, 2):
            sys.exit(code)
    dist.destroy_process_group()
