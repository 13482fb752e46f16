"""The people's door: REST, the live WebSocket, Prometheus metrics and the console's files, over aiohttp.

`server.create` builds the application from a `World` (what it may ask), `route.py` says what an endpoint is, `rest/` has
one file a noun, `live/` the WebSocket. It reads the store and never writes to it, except what a person asked for.
"""
