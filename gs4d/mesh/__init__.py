"""Animated triangle meshes from glTF: posed, drawn, and turned into Gaussians over time."""

from .load import load_animated_mesh
from .model import AnimatedMesh

__all__ = ["AnimatedMesh", "load_animated_mesh"]
