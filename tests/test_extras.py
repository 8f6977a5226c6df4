"""A package of an extra that is not installed: one sentence with the line that installs it, in place of a traceback."""

import re
import subprocess
import sys

import pytest

from tests.support.processes import environment
from worker_state import ConfigError
from worker_state.extras import extra

SERVE_HEALTH = """
import trio
trio.run(worker_state.serve_health, None, 0)
"""


@pytest.mark.parametrize(
    ("name", "program"), [("health", SERVE_HEALTH), ("cli", "from worker_state.devserver import serve")]
)
def test_without_h11_the_extra_is_named(name: str, program: str) -> None:
    """`serve_health` raises when it is called, the development server when it is imported; the package itself loads."""
    guarded = "".join(f"    {line}\n" for line in program.strip().splitlines())
    blocked = (
        # httpx and trio-websocket bring one of their own along; only ours is to be missing.
        "import sys, worker_state.manager\nsys.modules['h11'] = None\nimport worker_state\n"
        f"try:\n    worker_state.serve_health\n{guarded}except worker_state.ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout == f"The package h11 is not installed: pip install 'worker-state[{name}]'\n"


def test_a_package_is_named_as_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    sentence = "The package prometheus-client is not installed: pip install 'worker-state[health]'"
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$") as caught, extra("health"):
        import prometheus_client  # noqa: F401
    assert isinstance(caught.value, ModuleNotFoundError)
    assert caught.value.name == "prometheus_client"


def test_a_module_of_our_own_that_is_missing_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), extra("health"):
        import worker_state.no_such_module  # type: ignore[import-not-found]  # noqa: F401
