"""The store in tables: what is the same on every SQL engine. database.py says what it runs on."""
