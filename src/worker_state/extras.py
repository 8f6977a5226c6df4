"""Optional packages: a missing one is one sentence that names the extra, not a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker_state.core.errors import ConfigError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Put around imports that need this extra. Raises `ConfigError` when one of its packages is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __name__.partition(".")[0]):
            raise
        raise ConfigError(
            f"The package {package.replace('_', '-')} is not installed: pip install 'worker-state[{name}]'"
        ) from None
