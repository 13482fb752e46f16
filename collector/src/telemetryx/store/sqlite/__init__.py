"""The store in one SQLite file: WAL, synchronous=FULL, one writer thread, readers with their own connections."""
