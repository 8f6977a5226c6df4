"""The public kit's server in memory, under the names that these tests have for it."""

from worker_state.testing import MemoryServer as FakeServer
from worker_state.testing import MemorySocket as FakeSocket

__all__ = ["FakeServer", "FakeSocket"]
