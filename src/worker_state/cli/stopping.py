"""How a running command ends: the first Ctrl-C or SIGTERM leaves in order, the second one at once."""

import os
import signal

import trio

from worker_state.cli.screen import Screen


async def cancel_on_signal(
    scope: trio.CancelScope,
    screen: Screen,
    farewell: str,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel the scope at the first signal. Run it outside that scope, so that it still hears the second."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        leaving = False
        async for number in signals:
            if leaving:
                # The person has waited for the orderly way and does not want it: no clean-up, no flushing.
                os._exit(128 + number)
            leaving = True
            screen.line(f"{farewell} (once more to force it).")
            scope.cancel()
