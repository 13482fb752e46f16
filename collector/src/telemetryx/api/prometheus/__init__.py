"""The Prometheus HTTP API under /prometheus/api/v1: what Grafana, promtool and other clients of Prometheus ask.

`endpoints.py` has what is asked, `params.py` how, `series.py` how our series look there, `source.py` where samples come
from, `work.py` the threads that evaluate, `answer.py` the JSON, `ruleset.py` rules and alerts in Prometheus' shape.
"""
