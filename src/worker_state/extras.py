"""Optional packages: a missing one is one sentence that names the extra, not a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker_state.errors import ConfigError


class MissingExtra(ModuleNotFoundError, ConfigError):
    """A package of an extra is not installed; `name` is its module, and the text the line that installs it."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Put around imports that need this extra. Raises `MissingExtra` when one of its packages is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", __name__.partition(".")[0]):
            raise
        sentence = f"The package {module.replace('_', '-')} is not installed: pip install 'worker-state[{name}]'"
        raise MissingExtra(sentence, name=module) from None
