"""Photographs in and out, folders of them, and the endless stream of degraded crops that training reads."""

from .batch import Batch
from .batches import restoration_batches
from .folders import Degraded, ImageFolder, Pair, Paired
from .image import Photo, find_images, read, write
from .seeds import generator

__all__ = [
    "Batch",
    "Degraded",
    "ImageFolder",
    "Pair",
    "Paired",
    "Photo",
    "find_images",
    "generator",
    "read",
    "restoration_batches",
    "write",
]
