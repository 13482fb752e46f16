"""The live stream: committed samples, events and alerts pushed to WebSocket clients, resumable by cursor."""
