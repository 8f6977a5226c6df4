"""`worker-state offer` by an API key, in whose room the worker is looked for."""

import pytest
import trio
import typer

from worker_state import Job, open_state_manager, serve_jobs
from worker_state.cli.offer_job import offer
from worker_state.devserver.identities import ApiKey
from worker_state.testing import on_sockets

KEY = "slp_lab"


async def handle(job: Job) -> None:
    """A job that is done at once, and repeats the client's own key."""
    await job.send({"type": "note", "text": f"you came with {KEY}"})


async def test_an_offer_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    """The offer goes to the worker that is named, or to any that is available; there may be none."""
    with trio.fail_after(30):
        async with on_sockets(generation="v3", api_keys={KEY: ApiKey("0badcafe")}) as kit:
            config = kit.config(api_key=KEY)
            async with open_state_manager(config) as manager, trio.open_nursery() as nursery:
                nursery.start_soon(serve_jobs, manager, handle)
                await offer(config, None, {"sdp": "v=0"}, 20)
                await manager.wait_for(lambda state: state.status == "available" and state.synced)
                await offer(config, manager.state.peer_id, {"sdp": "v=0"}, 20)
                printed = capsys.readouterr().out
                assert (printed.count('"done"'), printed.count("you came with [secret]")) == (2, 2)
                manager.set_maintenance()
                await manager.synced()
                for worker, why in ((None, "no worker of the room is available"), ("x", "no such worker")):
                    with pytest.raises(typer.Exit) as left:
                        await offer(config, worker, {"sdp": "v=0"}, 20)
                    assert left.value.exit_code == 1
                    assert why in capsys.readouterr().err
                nursery.cancel_scope.cancel()
