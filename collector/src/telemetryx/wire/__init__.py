"""What agents send: frames (link.proto) and the columnar payload inside a batch (proto/README.md), both directions.

Written without sharing code with the agent: two implementations that must agree on proto/vectors/.
"""
