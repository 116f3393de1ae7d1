"""Static pages of finished runs: ranked tables, players, curves, comparisons. They need no server and no network."""
