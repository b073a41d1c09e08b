"""Results to look at: pictures of before and after, tables, curves, and one HTML file that needs nothing else.

Nothing here knows models or measures: strings and images in, files out.
"""

from .curves import Panel, curves, curves_png
from .page import Comparison, facts, figure, gallery, page, picture, section, sliders
from .pictures import Strip, grid, sheet
from .table import Table

__all__ = [
    "Comparison",
    "Panel",
    "Strip",
    "Table",
    "curves",
    "curves_png",
    "facts",
    "figure",
    "gallery",
    "grid",
    "page",
    "picture",
    "section",
    "sheet",
    "sliders",
]
