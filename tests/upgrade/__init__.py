"""A rolling upgrade from another revision to this one, under load."""
