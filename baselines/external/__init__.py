"""Programs in environments of their own as models."""
