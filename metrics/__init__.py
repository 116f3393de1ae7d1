"""The measures: one module per metric, from arrays to numbers."""
