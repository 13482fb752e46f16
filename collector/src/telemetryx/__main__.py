"""Lets `python -m telemetryx` do what the installed command does: child processes are started that way."""

from telemetryx.cli import main

if __name__ == "__main__":
    main()
