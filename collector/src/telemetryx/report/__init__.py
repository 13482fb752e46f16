"""Reports: how available and complete each site was over a time, and what was most anomalous, from the stored readings.

`gather.py` reads the store piece by piece and keeps, of each series, when it was heard; `measure.py` computes with Polars;
`page.py` and `charts.py` write HTML that needs nothing but itself, `tables.py` CSV. It runs in the command's own process.
"""
