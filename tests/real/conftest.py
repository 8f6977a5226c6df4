"""What the tests on real sockets and processes are given."""

from collections.abc import Iterator

import pytest

from tests.real.keeper import Server, keeping


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in another process, for all tests that do it no harm."""
    with keeping(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the module's own, to be stopped, killed and started again."""
    with keeping(tmp_path_factory.mktemp("mortal")) as server:
        yield server
