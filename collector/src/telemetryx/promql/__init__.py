"""PromQL over columns: reads an expression, asks a `Source` for its series, and answers what Prometheus 3 would.

`parse.py` reads and refuses, `evaluate.py` walks the expression; a vector is a matrix of series by evaluation times, a range
is a pair of indices into the samples of all series (`ranges.py`), so that no step is a loop over samples. Sums are plain
float64 additions. It knows neither store nor HTTP: api/prometheus/ joins the three.
"""
