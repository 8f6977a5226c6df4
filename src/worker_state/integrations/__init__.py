"""What other programs ask of a worker: its health over HTTP, its metrics, its state for systemd."""
