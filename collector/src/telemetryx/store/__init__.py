"""Where data is kept: interface.py says what a store can do, tables/ does it in SQL on sqlite/ or postgres/, selector.py reads `name{label="value"}`."""
