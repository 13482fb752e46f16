"""Signing in at a provider with OpenID Connect: its answers checked (token), asked for (provider), and the two pages of it (pages)."""
