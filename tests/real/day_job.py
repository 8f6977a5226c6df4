"""What the worker of the fast day does with a job. Its process imports nothing else of the tests."""

from typing import Any

import trio


async def handle(job: Any) -> None:
    """It takes as long as the offer says, in seconds of its own clock."""
    await trio.sleep(float(job.offer["seconds"]))
