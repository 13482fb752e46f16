"""The tests that look at the whole: real processes, real clients, a real browser."""
