"""The program `worker-state`, and `python -m worker_state`."""

import os
import signal
import sys
from types import FrameType


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)  # there is nothing to clean up yet, or any more


def main() -> None:
    """Run the command line. Without the extra `cli` it says so and exits with code 2."""
    if os.getpid() == 1:  # a container's command: the kernel ignores what process 1 has no handler for (G26)
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _end)
    # A Ctrl-C during the imports ends the process as SIGTERM does, without a traceback. Commands listen themselves.
    elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import rich  # noqa: F401 - commands import it late; without it none should start

        from worker_state.cli.app import main

        main()
    except ModuleNotFoundError as error:
        if error.name not in ("h11", "rich", "typer"):
            raise
        print(f"Error: worker-state needs {error.name}: pip install 'worker-state[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()
