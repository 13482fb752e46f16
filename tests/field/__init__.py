"""Agent and collector as services in a booted Debian."""
