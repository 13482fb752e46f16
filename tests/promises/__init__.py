"""One file a promise of the design."""
