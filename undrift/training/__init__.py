"""Training: the one loop (`fit`), averages, checkpoints, and a run from a recipe (`run`).

Import from the modules: `checkpoint` must not pull in Accelerate, which only `fit` and `run` need.
"""
