"""The development server's page in a real browser: it shows what is, follows it, and is of use to everybody."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from selenium.webdriver import Keys

from tests.browser.conftest import Page
from worker_state import Config, open_state_manager
from worker_state.devserver import DevServer, serve

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# One browser for all of them, when the tests are handed out to several processes.
pytestmark = pytest.mark.xdist_group("browser")

WIDE = "document.documentElement.scrollWidth <= innerWidth && innerWidth === {}"
ROWS = (
    "[...document.querySelectorAll('#rows tr')].filter((tr) => tr.checkVisibility())"
    ".map((tr) => tr.cells[0].textContent)"
)
LINK = "document.getElementById('link').textContent"
VILE = '<img src="x" onerror="console.error(1)">'


@pytest.fixture
async def server(nursery: trio.Nursery) -> DevServer:
    started: DevServer = await nursery.start(serve)
    return started


def register(server: DevServer, peer_id: str, **properties: Any) -> None:
    """Somebody without a socket, in a room of his own."""
    identity: Any = server.rooms.sign_in(server.clock()).body
    room: Any = server.rooms.create_room("Bearer " + identity["id_token"], server.clock()).body
    record = {"tags": ["sleap-rtc"], "properties": {"status": "available", **properties}}
    frame = {"type": "register", "peer_id": peer_id, "role": "worker", "metadata": record, **room}
    server.rooms.receive(peer_id, json.dumps({**frame, "id_token": identity["id_token"]}), server.clock())


async def test_a_worker_is_shown_and_followed_without_a_reload(server: DevServer, page: Page) -> None:
    """From its registration over real sockets to its end, with its status in words and one quiet sentence about it."""
    await page.open(server)
    await page.shows("No worker is registered here.", "Live: asked every second.")
    await page.js("window.same = true")
    capabilities = {"gpu_model": "NVIDIA RTX A5000", "gpu_memory_mb": 24576, "hostname": "gpu-07"}
    async with open_state_manager(Config(server.ws_url, server.http_url, capabilities=capabilities)) as worker:
        name = str(worker.state.peer_id)[:8]
        await page.shows(name, "available", "NVIDIA RTX A5000", "24 GiB", "gpu-07", "1 worker in 1 room: 1 available")
        await page.shows(f"{name} appeared, available.")
        worker.set_busy("job-17")
        await page.shows("busy", "job-17", "1 worker in 1 room: 1 busy", f"{name}: available → busy.")
        assert await page.js("window.same") is True
        everything = await page.js("document.documentElement.outerHTML")
        (room,) = server.rooms.rooms.values()
        for secret in (str(worker.session_string), str(room.token)):
            assert secret not in everything
    await page.shows("No worker is registered here.")
    assert await page.js("document.getElementById('news').getAttribute('aria-live')") == "polite"
    assert await page.complaints() == []


async def test_an_empty_server_says_what_to_do(server: DevServer, page: Page) -> None:
    """It says what it is; its commands name this server, as it was reached, and give way to the first worker."""
    await page.open(server)
    options = f"--ws {server.ws_url} --http {server.http_url}"
    await page.shows(
        "Development server", f"worker-state run {options}", f"worker-state run my_worker:handle {options}"
    )
    await page.shows(f"worker-state offer {options} --session SESSION-STRING")
    assert await page.js("document.title") == "Workers – development server"
    assert not await page.js("document.getElementById('workers').checkVisibility()")
    register(server, "aaa")
    await page.until(f"{ROWS}.length === 1")
    assert not await page.js("document.getElementById('empty').checkVisibility()")
    await page.shows("Development server")
    server.http_url = server.http_url.replace("127.0.0.1", "localhost")
    await page.open(server)
    assert await page.js("document.querySelector('#empty pre').textContent.includes('--ws ws://localhost:')")


async def test_a_host_name_stands_on_one_line(server: DevServer, page: Page) -> None:
    """On a wide and on a narrow screen; one that is too long is cut, and whole under the pointer."""
    host = "gpu-node-0117.cluster.example.org"
    register(server, "aaa", hostname=host, gpu_model="NVIDIA RTX A5000", job_id="j" * 36)
    register(server, "bbb", hostname="h" * 300)
    cells = "[...document.querySelectorAll('#rows td.host')].map((cell) => {}).sort()"
    lines = "(range.selectNodeContents(cell), new Set([...range.getClientRects()].map((each) => each.top)).size)"
    for width in (360, 800, 1000, 1160, 1280):
        await page.open(server, width=width)
        await page.until(f"{ROWS}.length === 2")
        assert await page.js(WIDE.format(width)), width
        await page.js("(window.range = document.createRange()) && 1")
        assert await page.js(cells.format(lines)) == [1, 1], width
        assert await page.js(cells.format("cell.title")) == [host, "h" * 300]
        assert await page.js(cells.format("cell.scrollWidth <= cell.clientWidth")) == [False, True], width


def test_the_browser_leaves_nothing_behind(chromium: "Chrome") -> None:
    """Its temporary files are in a folder of the tests, which goes with it."""
    service: Any = chromium.service
    assert list(Path(service.env["TMPDIR"]).glob("*hromium*"))


async def test_the_keyboard_is_enough(server: DevServer, page: Page) -> None:
    """A slash leads to the filter, which hides rows; arrows move a visible focus, which an update leaves alone."""
    for name, status in (("aaa", "available"), ("bbb", "busy"), ("ccc", "available")):
        register(server, name, status=status)
    await page.open(server)
    await page.until(f"{ROWS}.length === 3")
    everybody = await page.js(ROWS)
    await page.press("/", "AVAIL")
    assert sorted(await page.js(ROWS)) == ["aaa", "ccc"]
    await page.shows("the filter shows 2")
    await page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    visible = [name for name in everybody if name != "bbb"]
    assert await page.js("document.activeElement.cells[0].textContent") == visible[-1]
    assert await page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.press(Keys.ARROW_UP, Keys.ARROW_UP)
    assert await page.js("document.activeElement.id") == "filter"
    await page.press(Keys.ESCAPE)
    assert await page.js(ROWS) == everybody
    await page.press(Keys.TAB)
    assert await page.js("document.activeElement.cells[0].textContent") == everybody[0]
    update = {"type": "update_metadata", "peer_id": everybody[0], "metadata": {"properties": {"status": "busy"}}}
    server.rooms.receive("somebody", json.dumps(update), server.clock())
    await page.shows("busy (no tags)")
    assert await page.js("document.activeElement.cells[0].textContent") == everybody[0]


async def test_a_phone_shows_it_all_without_scrolling_sideways(server: DevServer, page: Page) -> None:
    """At 360 pixels rows become cards, and whatever a worker calls itself is text that fits."""
    register(server, "aaa", status="busy", current_job_id="j" * 300, gpu_model="NVIDIA RTX A5000", gpu_memory_mb=24576)
    register(server, VILE, status=VILE * 3, hostname="h" * 300, gpu_model="M" * 300)
    await page.open(server, width=360, height=740)
    await page.until(f"{ROWS}.length === 2")
    assert await page.js(WIDE.format(360))
    assert await page.js("getComputedStyle(document.querySelector('#rows tr')).display") == "grid"
    assert await page.js("document.querySelectorAll('#rows img').length") == 0
    for width in (800, 1000, 1160, 1280):
        await page.open(server, width=width)
        await page.until(f"{ROWS}.length === 2")
        assert await page.js(WIDE.format(width)), width
    assert await page.complaints() == []


async def test_it_is_dark_in_the_dark_and_still_for_who_wants_stillness(server: DevServer, page: Page) -> None:
    """Both wishes are the system's to tell."""
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    row = "document.querySelector('#rows tr')"
    changed = f"({row}.className = 'changed', getComputedStyle({row}).animationName)"
    register(server, "aaa")
    await page.open(server, prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    await page.until(f"{ROWS}.length === 1")
    light, moving = await page.js(ground), await page.js(changed)
    await page.open(server, prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    await page.until(f"{ROWS}.length === 1")
    dark, still = await page.js(ground), await page.js(changed)
    assert (light, dark) == ("rgb(250, 250, 248)", "rgb(20, 23, 26)")
    assert (moving, still) == ("changed", "none")


async def test_a_server_that_is_gone_is_missed_and_found_again(nursery: trio.Nursery, page: Page) -> None:
    """What is old is called old, with its age; when the server is back the page is live by itself."""
    first = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[DevServer]) -> None:
        with first:
            await serve(task_status=task_status)

    server = await nursery.start(run)
    register(server, "aaa")
    await page.open(server)
    await page.shows("aaa", "Live: asked every second.")
    first.cancel()
    await page.until(f"{LINK}.includes('what stands here is old. No answer since ')")
    assert await page.js("document.getElementById('workers').className") == "old"
    assert await page.js(ROWS) == ["aaa"]
    await page.until(f"/since ([4-9]|[1-9][0-9]) s/.test({LINK})")
    again = await nursery.start(partial(serve, http_port=server.http_port))
    register(again, "bbb")
    await page.shows("bbb", "Live: asked every second.")
    assert await page.js(ROWS) == ["bbb"]
    assert await page.js("document.getElementById('workers').className") == ""
    # A browser notes every request that found nobody; nothing else may stand there.
    assert all("ERR_" in each and "workers.json" in each for each in await page.complaints())


async def test_a_server_that_hangs_or_fails_is_no_live_one(server: DevServer, page: Page) -> None:
    """An answer that does not come, or is none, does not pass for one."""
    await page.open(server)
    await page.shows("Live: asked every second.")
    server.fail_http("/workers.json", 500, "no", times=5)
    await page.until(f"{LINK}.includes('No answer since ')")
    await page.shows("Live: asked every second.")
    server.hang_http("/workers.json")
    await page.until(f"{LINK}.includes('No answer since ')")
    server.release_http()
    await page.shows("Live: asked every second.")
