"""ProPainter (Zhou et al. 2023), written from its description: flow, its completion, propagation of pixels, a generator for the rest."""
