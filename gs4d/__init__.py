"""gs4d: a video of one object, an image or a sentence becomes an animated 3D Gaussian splat."""

__version__ = "0.1.0"
