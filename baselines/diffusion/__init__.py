"""Diffusion models: VideoPainter, latent blending around image-to-video backbones, Wan-VACE. Needs ``vpbench[diffusion]``."""
