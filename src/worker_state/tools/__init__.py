"""tools: clients of the same server, for people: `doctor` tries a worker's whole way, `observer` watches a room."""
