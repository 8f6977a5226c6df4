"""The outside world: TCP and TLS, the WebSocket, HTTP. Nothing here knows an actor, or decides what a failure means."""
