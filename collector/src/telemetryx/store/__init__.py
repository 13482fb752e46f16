"""Where data is kept: interface.py says what a store can do, sqlite/ is one, selector.py reads `name{label="value"}`."""
