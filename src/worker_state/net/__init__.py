"""The network under the actors: TCP and TLS on trio's streams, the WebSocket on trio-websocket."""
