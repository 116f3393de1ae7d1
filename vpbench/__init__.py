"""vpbench: evaluation of video inpainting and video editing systems."""

from vpbench.version import __version__

__all__ = ["__version__"]
