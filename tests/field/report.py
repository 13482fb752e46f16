"""What a run says: a line for each thing that was seen, with its counts."""


def said(what: str, **counts: object) -> None:
    """Print a line of the report."""
    print(f"{what:58} {', '.join(f'{name} {value}' for name, value in counts.items())}", flush=True)
