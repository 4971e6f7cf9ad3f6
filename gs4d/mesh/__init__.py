"""Animated triangle meshes from glTF.

Posed, drawn, and covered with Gaussians that move with them.
"""

from .draw import UNLIT, Lighting
from .load import load_animated_mesh
from .model import AnimatedMesh
from .surface import SurfaceGaussians, surface_gaussians

__all__ = [
    "UNLIT",
    "AnimatedMesh",
    "Lighting",
    "SurfaceGaussians",
    "load_animated_mesh",
    "surface_gaussians",
]
