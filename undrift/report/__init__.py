"""Results to look at: pictures of before and after, tables, curves, and one HTML file that needs nothing else.

Nothing here knows models or measures: strings and images in, files out.
"""

from .curves import Panel, curves
from .page import Comparison, facts, figure, page, section, sliders
from .pictures import Strip, grid
from .table import Table

__all__ = [
    "Comparison",
    "Panel",
    "Strip",
    "Table",
    "curves",
    "facts",
    "figure",
    "grid",
    "page",
    "section",
    "sliders",
]
