"""Run as one of several processes: the command line, words from a JSON file (one list per command), one after another."""

import json
import sys

import torch
import torch.distributed as dist

from undrift.cli.main import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")  # once: a command alone would make and end its own
    for words in json.loads(open(sys.argv[1], encoding="utf-8").read()):
        code = main(words)
        if code not in (0, 2):
            sys.exit(code)
    dist.destroy_process_group()
