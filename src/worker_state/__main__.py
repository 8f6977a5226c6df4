"""The program `worker-state`, and `python -m worker_state`: a Ctrl-C while everything is loaded is no traceback."""

import signal


def main() -> None:
    """Run the command line."""
    # Python's own way would raise in the middle of any import. Nothing has to be undone before a command listens to
    # the signals itself, nor after it: till then Ctrl-C ends the process as SIGTERM does. Who has it ignored means it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from worker_state.cli import main

    main()


if __name__ == "__main__":
    main()
