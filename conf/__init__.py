"""Hydra configs (``pkg://vpbench.conf``)."""
