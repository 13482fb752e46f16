"""Faults made on purpose, and the count of what they cost."""
