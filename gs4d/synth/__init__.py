"""Objects made of formulas, as Gaussians over time.

The rose of the demo, and animated objects without end.
"""

from .objects import AnimatedObject, ObjectOptions, draw_views, make_object, options_for
from .rose import rose

__all__ = ["AnimatedObject", "ObjectOptions", "draw_views", "make_object", "options_for", "rose"]
