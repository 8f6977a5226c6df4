"""A real Chromium for the tests of the page: one for all of them, without a window, closed at the end.

Nothing is downloaded. Where there is no browser the tests are skipped, unless the environment says that there has to
be one (`WORKER_STATE_BROWSER=required`, as the CI does when it has installed it).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio

from worker_state.devserver import DevServer

if TYPE_CHECKING:  # it takes as long to load as all else here, and every process of the tests reads this
    from selenium.webdriver import Chrome

PATIENCE = 30.0
"""Seconds. Ends a hang; nothing here takes a tenth of it."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--no-proxy-server",
)

T = TypeVar("T")


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Chrome]":
    """The browser itself."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        if os.environ.get("WORKER_STATE_BROWSER") == "required":
            pytest.fail("WORKER_STATE_BROWSER says that there is a browser, and chromium or chromedriver is missing")
        pytest.skip("the page is tested in a real browser: install chromium and chromedriver for it")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # What it leaves behind goes with this folder, whose name is short: there are sockets in it.
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        browser = Chrome(options=options, service=Service(driver, env={**os.environ, "TMPDIR": folder}))
        browser.set_page_load_timeout(PATIENCE)
        browser.set_script_timeout(PATIENCE)
        try:
            yield browser
        finally:
            browser.quit()


@dataclass
class Page:
    """The server's page as a person has it open. Everything blocking happens beside trio, where the server runs."""

    chrome: "Chrome"

    async def open(self, server: DevServer, *, width: int = 1280, height: int = 800, **media: str) -> None:
        """Load it, on a screen of this size, with media features such as `prefers_color_scheme="dark"`."""
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}

        def load() -> None:
            self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            self.chrome.get(f"{server.http_url}/")

        await trio.to_thread.run_sync(load)

    async def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return await trio.to_thread.run_sync(self.chrome.execute_script, f"return {expression}")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        await self._wait(lambda chrome: chrome.execute_script(f"return {expression}"), expression)

    async def shows(self, *texts: str) -> None:
        """Wait until all of these can be read."""

        def read(chrome: "Chrome") -> bool:
            return all(text in chrome.find_element("tag name", "body").text for text in texts)

        await self._wait(read, f"the texts {texts}")

    async def press(self, *keys: str) -> None:
        """Press these keys, one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains

        await trio.to_thread.run_sync(lambda: ActionChains(self.chrome, duration=0).send_keys(*keys).perform())

    async def complaints(self) -> list[str]:
        """What the browser has written into its console since this was asked before."""
        entries = await trio.to_thread.run_sync(self.chrome.get_log, "browser")
        return [json.dumps(entry["message"]) for entry in entries]

    async def _wait(self, condition: "Callable[[Chrome], object]", what: str) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        def wait() -> None:
            patience = WebDriverWait(
                self.chrome, PATIENCE, poll_frequency=0.1, ignored_exceptions=[StaleElementReferenceException]
            )
            patience.until(condition, f"waited in vain for {what}")

        await trio.to_thread.run_sync(wait)


@pytest.fixture
def page(chromium: "Chrome") -> Iterator[Page]:
    """The browser for one test; afterwards it looks at nothing."""
    forget: Callable[[str], object] = chromium.get_log  # which selenium has not typed
    forget("browser")
    yield Page(chromium)
    chromium.get("about:blank")
