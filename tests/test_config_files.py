"""The environment and the two files as they really lie there."""

import logging
import os
from pathlib import Path

import pytest

from tests.support.processes import OWN_VARIABLES
from worker_state import Config, ConfigError, Timing, load_config

FILE = """
[environments.production]
signaling_websocket = "ws://localhost:8080"
signaling_http = "http://localhost:8001"
[worker_state]
tags = ["mine"]
"""


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home and a current directory without anything."""
    for name in [name for name in os.environ if name.startswith(OWN_VARIABLES)]:
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / ".sleap-rtc").mkdir(parents=True)
    return tmp_path / "home"


def test_the_file_at_home(home: Path) -> None:
    """A configuration at home is enough."""
    (home / ".sleap-rtc" / "config.toml").write_text(FILE, "utf-8")
    assert load_config() == Config("ws://localhost:8080", "http://localhost:8001", tags=("mine",))


def test_arguments_stand_over_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program says itself replaces what stands in files and environment."""
    Path("sleap-rtc.toml").write_text(FILE, "utf-8")
    monkeypatch.setenv("SLEAP_RTC_API_KEY", "slp_key")
    monkeypatch.setenv("WORKER_STATE_TIMING_HTTP", "5")
    assert load_config().timing == Timing(http=5)
    config = load_config(room_id="r", room_token="t", timing=Timing(), http_url="http://localhost:1")
    assert config == Config(
        "ws://localhost:8080", "http://localhost:1", room_id="r", room_token="t", tags=("mine",), timing=Timing()
    )


@pytest.mark.parametrize("nothing", ["api_key", "room_id", "room_token"])
def test_an_argument_of_none_chooses_nothing(monkeypatch: pytest.MonkeyPatch, nothing: str) -> None:
    """A room, or a key, that the environment gives stays although the program says that it has nothing of the other."""
    Path("sleap-rtc.toml").write_text(FILE, "utf-8")
    given = {"room_id": "r", "room_token": "token"} if nothing == "api_key" else {"api_key": "slp_key"}
    for field, value in given.items():
        monkeypatch.setenv(f"WORKER_STATE_{field.upper()}", value)
    config = load_config(**{nothing: None})
    assert {field: getattr(config, field) for field in given} == given


def test_no_server_anywhere() -> None:
    """Without an address there is no configuration, and the sentence says where one can stand."""
    with pytest.raises(ConfigError, match=r"^websocket_url is missing: neither SLEAP_RTC_SIGNALING_WS nor a file"):
        load_config()
    with pytest.raises(ConfigError, match=r"^http_url is missing"):
        load_config(websocket_url="ws://localhost")


def test_unknown_keys_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An embedding program learns of unknown keys from the log."""
    Path("sleap-rtc.toml").write_text(FILE.replace("tags", "tag"), "utf-8")
    load_config()
    ((_, level, text),) = caplog.record_tuples
    assert level == logging.WARNING
    assert text == "sleap-rtc.toml has an unknown key 'tag' in [worker_state]; did you mean tags?"


def test_a_field_that_no_config_has() -> None:
    """An argument that no `Config` has is a mistake in the program."""
    Path("sleap-rtc.toml").write_text(FILE, "utf-8")
    with pytest.raises(TypeError, match="colour"):
        load_config(colour="red")


def test_a_misspelt_field_is_named_first() -> None:
    """A field that is only misspelt is not missed: the sentence names it and the nearest one."""
    with pytest.raises(TypeError, match=r"^Config has no field 'websocket_ulr'; did you mean 'websocket_url'"):
        load_config(websocket_ulr="ws://localhost", http_url="http://localhost")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[environments.production]\nsignaling_http = \n", "sleap-rtc.toml is no TOML: Invalid value (at line 2"),
        (b"a = '\xff'", "sleap-rtc.toml is no TOML: it is not written in UTF-8"),
        (b"a = " + b"[" * 5000, "sleap-rtc.toml is no TOML that can be read: it is nested too deeply"),
    ],
)
def test_a_file_that_is_no_toml(content: bytes, sentence: str) -> None:
    """A damaged file is refused with its name and, where it is known, the line."""
    Path("sleap-rtc.toml").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load_config()
    assert str(refused.value).startswith(sentence)


def test_a_file_that_cannot_be_read() -> None:
    """What is there and cannot be read is not passed over."""
    Path("sleap-rtc.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^sleap-rtc\.toml cannot be read: "):
        load_config()


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose user has no home has no file there, and that is all."""

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    Path("sleap-rtc.toml").write_text(FILE, "utf-8")
    assert load_config().tags == ("mine",)
