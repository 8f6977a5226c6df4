"""Where each value comes from: pure, layers in and values with their origins out."""

import tomllib
from typing import Any

import pytest

from worker_state import ConfigError
from worker_state.settings import KEYS, Setting, Settings, resolve

HERE, HOME = "sleap-rtc.toml", "~/.sleap-rtc/config.toml"
WS, HTTP = "SLEAP_RTC_SIGNALING_WS", "SLEAP_RTC_SIGNALING_HTTP"
SERVER = """
[environments.production]
signaling_websocket = "wss://production"
signaling_http = "https://production"
"""


def settings(here: Any = None, home: Any = None, given: Any = None, **variables: str) -> Settings:
    """What comes of two files as text, of options by the names of their keys, and of variables."""
    by_hand = {name: Setting(value, KEYS[name].option or name, rank=0) for name, value in (given or {}).items()}
    files = {label: tomllib.loads(text) for label, text in ((HERE, here), (HOME, home)) if text is not None}
    return resolve(by_hand, variables, files)


def found(settings: Settings, name: str) -> tuple[Any, str]:
    return settings.values[name].value, settings.values[name].origin


def test_order() -> None:
    """The command line stands over the environment, this over the file here, over the file at home, over defaults."""
    name, home = "reservation_limit", "[worker_state]\nreservation_limit = 4\nsignal_buffer = 9"
    here = "[worker_state]\nreservation_limit = 3"
    variable = {"WORKER_STATE_RESERVATION_LIMIT": "2"}
    assert found(settings(here, home, {name: 1}, **variable), name) == (1, name)
    assert found(settings(here, home, **variable), name) == (2, "WORKER_STATE_RESERVATION_LIMIT")
    assert found(settings(here, home), name) == (3, "sleap-rtc.toml [worker_state]")
    assert found(settings(None, home), name) == (4, "~/.sleap-rtc/config.toml [worker_state]")
    assert found(settings(), name) == (None, "default")
    assert found(settings(here, home), "signal_buffer") == (9, "~/.sleap-rtc/config.toml [worker_state]")


def test_environments() -> None:
    """The addresses are those of the environment that the variable names, or of production."""
    files = SERVER + SERVER.replace("production", "lab")
    assert found(settings(files), "signaling_http") == (
        "https://production",
        "sleap-rtc.toml [environments.production]",
    )
    lab = settings(files, SLEAP_RTC_ENV="lab")
    assert found(lab, "signaling_http") == ("https://lab", "sleap-rtc.toml [environments.lab]")
    assert lab.environment == Setting("lab", "SLEAP_RTC_ENV", 1)
    assert settings(files, SLEAP_RTC_ENV="").environment == Setting("production")


def test_addresses_of_two_files() -> None:
    """Each address is taken from the nearest place that gives it, as sleap-rtc's own variables do."""
    near = settings("[environments.production]\nsignaling_http = 'http://near'", SERVER, **{WS: "ws://nearest"})
    assert found(near, "signaling_websocket") == ("ws://nearest", WS)
    assert found(near, "signaling_http") == ("http://near", "sleap-rtc.toml [environments.production]")


def test_ours_for_one_environment() -> None:
    """What a file says for the environment stands over what it says for all, and under every nearer file."""
    text = "[worker_state]\ntags = ['all']\n[environments.production.worker_state]\ntags = ['one']\n"
    assert found(settings(text), "tags") == (["one"], "sleap-rtc.toml [environments.production.worker_state]")
    assert found(settings(text + "[environments.lab]", SLEAP_RTC_ENV="lab"), "tags")[0] == ["all"]
    assert found(settings("[worker_state]\ntags = ['near']", text), "tags")[0] == ["near"]


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("WORKER_STATE_TAGS", "a, b", "tags", ("a", "b")),
        ("WORKER_STATE_SIGNAL_BUFFER", "7", "signal_buffer", 7),
        ("WORKER_STATE_TIMING_HTTP", "2.5", "timing.http", 2.5),
        ("WORKER_STATE_SHOW_SESSION_STRING", "No", "show_session_string", False),
        ("WORKER_STATE_SHOW_SESSION_STRING", "1", "show_session_string", True),
        ("WORKER_STATE_WAIT_FOR_SERVER", "true", "wait_for_server", True),
        ("WORKER_STATE_DELETE_GIVEN_ROOM", "on", "delete_given_room", True),
        ("WORKER_STATE_GPU_MODEL", "RTX", "capabilities.gpu_model", "RTX"),
        ("WORKER_STATE_GPU_MEMORY_MB", "24576", "capabilities.gpu_memory_mb", 24576),
        ("WORKER_STATE_SUPPORTED_MODELS", "base,centroid", "capabilities.supported_models", ("base", "centroid")),
        ("SLEAP_RTC_API_KEY", "slp_a", "api_key", "slp_a"),
        ("WORKER_STATE_API_KEY", "slp_b", "api_key", "slp_b"),
    ],
)
def test_variables(variable: str, text: str, name: str, value: object) -> None:
    """A variable's text becomes what the key is; an empty one says nothing."""
    assert found(settings(**{variable: text}), name) == (value, variable)
    assert not settings(**{variable: ""}).values[name].given


def test_two_variables_for_one_key() -> None:
    """The key that sleap-rtc knows as well is asked first."""
    both = settings(SLEAP_RTC_API_KEY="slp_theirs", WORKER_STATE_API_KEY="slp_ours")
    assert found(both, "api_key") == ("slp_theirs", "SLEAP_RTC_API_KEY")


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("WORKER_STATE_TIMING_HTTP", "s3cret", "WORKER_STATE_TIMING_HTTP must be a number"),
        ("WORKER_STATE_SHOW_SESSION_STRING", "s3cret", "WORKER_STATE_SHOW_SESSION_STRING must be true or false"),
    ],
)
def test_unreadable_variable(variable: str, text: str, sentence: str) -> None:
    """A variable that cannot be read is refused by its name, without what stands in it."""
    with pytest.raises(ConfigError) as refused:
        settings(**{variable: text})
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("environments = 1", "environments in sleap-rtc.toml must be a table, not int"),
        ("worker_state = []", "[worker_state] in sleap-rtc.toml must be a table, not list"),
        ("[environments]\nlab = 'x'", "[environments.lab] in sleap-rtc.toml must be a table, not str"),
        ("[worker_state]\ntiming = 3", "[worker_state.timing] in sleap-rtc.toml must be a table, not int"),
    ],
)
def test_table_that_is_none(text: str, sentence: str) -> None:
    """What should be a table and is something else is refused with its file."""
    with pytest.raises(ConfigError) as refused:
        settings(text)
    assert str(refused.value) == sentence


def test_unknown_environment() -> None:
    """An environment that no file defines is refused with the known ones, but not when its addresses are not needed."""
    with pytest.raises(ConfigError, match="names the environment 'stagin', which no file defines; the known ones are"):
        settings(SERVER, SLEAP_RTC_ENV="stagin")
    with pytest.raises(ConfigError, match=r"which no file defines$"):
        settings(SLEAP_RTC_ENV="production")
    assert settings(SLEAP_RTC_ENV="production", **{WS: "ws://a", HTTP: "http://a"}).warnings == ()


def test_environment_that_nobody_has_named() -> None:
    """A file with other environments than the usual one is no reason to refuse; it is said."""
    (stray,) = settings("[environments.lab]").warnings
    assert stray == "no file defines the environment 'production', but lab: name it with SLEAP_RTC_ENV"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[environments.lab]\nsignaling_htp = 1\n[environments.production]",
            "sleap-rtc.toml has an unknown key 'signaling_htp' in [environments.lab]; did you mean signaling_http?",
        ),
        (
            "[worker_state]\nwait_for_sever = true\n[environments.production]",
            "sleap-rtc.toml has an unknown key 'wait_for_sever' in [worker_state]; did you mean wait_for_server?",
        ),
        (
            "[worker_state]\ndelete_room = true",
            "sleap-rtc.toml has an unknown key 'delete_room' in [worker_state]; did you mean delete_given_room?",
        ),
        ("[worker_state]\nxyz = 1", "sleap-rtc.toml has an unknown key 'xyz' in [worker_state]"),
        (
            "[worker_state.timing]\nhtp = 1",
            "sleap-rtc.toml has an unknown key 'htp' in [worker_state.timing]; did you mean http?",
        ),
        (
            "[worker_state.capabilities]\ngpu_model_ = 1",
            "sleap-rtc.toml has an unknown key 'gpu_model_' in [worker_state.capabilities]; did you mean gpu_model?",
        ),
        ("[worker-state]", "sleap-rtc.toml has a table [worker-state]; did you mean [worker_state]?"),
        ("signaling_http = 1", "sleap-rtc.toml has a key 'signaling_http' outside of [environments.NAME]"),
    ],
)
def test_unknown_key(text: str, sentence: str) -> None:
    """An unknown key in a table of ours is named with its file and the nearest known one."""
    assert settings(text).warnings == (sentence,)


def test_tables_of_others() -> None:
    """Other programs' tables, and capabilities that resemble no known one, are nobody's mistake."""
    text = "[worker.io]\nx = 1\n[storage.vast]\n[default]\n[worker_state.capabilities]\nlab = 'talmo'\n'a.b' = 1"
    read = settings(text)
    assert read.warnings == ()
    config = read.config(websocket_url="ws://a", http_url="http://a")
    assert dict(config.capabilities) == {"lab": "talmo", "a.b": 1}


def test_unknown_variable() -> None:
    """An unknown variable with our prefix is named; the development server's and other programs' are not ours."""
    variables = {"WORKER_STATE_TAG": "x", "WORKER_STATE_DEVSERVER_EXPOSE": "1", "SLEAP_RTC_MOUNT": "x", "HOME": "/"}
    (stray,) = settings(**variables).warnings
    assert stray == "the environment has an unknown variable WORKER_STATE_TAG; did you mean WORKER_STATE_TAGS?"


@pytest.mark.parametrize(("slip", "meant"), [("SLEAP_RTC_SIGNALLING_WS", WS), ("SLEAP_RTC_EVN", "SLEAP_RTC_ENV")])
def test_slip_in_a_shared_variable(slip: str, meant: str) -> None:
    """A variable that is nearly one of those which count is named, although its prefix is not ours alone."""
    (stray,) = settings(**{slip: "x"}).warnings
    assert stray == f"the environment has an unknown variable {slip}; did you mean {meant}?"


def test_room_or_key() -> None:
    """A room and an API key are alternatives: the nearer one is used. Side by side both stay, as with account keys."""
    room = {"room_id": "r", "room_token": "t"}
    near = settings(given=room, SLEAP_RTC_API_KEY="slp_x")
    assert [near.given(name) for name in ("room_id", "room_token", "api_key")] == ["r", "t", None]
    far = settings("[worker_state]\nroom_id = 'r'\nroom_token = 't'", SLEAP_RTC_API_KEY="slp_x")
    assert [far.given(name) for name in ("room_id", "room_token", "api_key")] == [None, None, "slp_x"]
    both = settings(SERVER, given={**room, "api_key": "slp_x"}).config()
    assert (both.room_id, both.api_key) == ("r", "slp_x")
    account = settings(SERVER, given={"room_id": "r"}, SLEAP_RTC_API_KEY="slp_acct_x").config()
    assert (account.room_id, account.api_key) == ("r", "slp_acct_x")


def test_config() -> None:
    """All that is given reaches the configuration; what is not has the library's defaults; arguments replace it."""
    text = SERVER + "[worker_state]\ntags = ['a']\n[worker_state.timing]\nhttp = 3\n[worker_state.capabilities]\nx = 1"
    config = settings(text).config()
    assert (config.websocket_url, config.http_url) == ("wss://production", "https://production")
    assert (config.tags, config.timing.http, config.timing.send) == (("a",), 3, 20.0)
    assert dict(config.capabilities) == {"x": 1}
    assert settings(text).config(tags=("b",)).tags == ("b",)


@pytest.mark.parametrize(
    ("text", "variables", "sentence"),
    [
        ("[worker_state]\ntags = 'a'", {}, "tags in sleap-rtc.toml [worker_state] must be a list of strings, not str"),
        (
            "[worker_state.timing]\nhttp = 'x'",
            {},
            "http in sleap-rtc.toml [worker_state.timing] must be a number of seconds, not str",
        ),
        (
            "[worker_state.capabilities]\nlab = 2020-01-01",
            {},
            "lab in sleap-rtc.toml [worker_state.capabilities] must be what JSON can say, not date",
        ),
        ("", {"WORKER_STATE_TIMING_HTTP": "nan"}, "WORKER_STATE_TIMING_HTTP must be a positive number of seconds"),
        ("", {"SLEAP_RTC_API_KEY": "s3cret"}, "SLEAP_RTC_API_KEY must begin with 'slp_'"),
        ("[worker_state.capabilities]\nstatus = 'x'", {}, "capabilities must not contain 'status'"),
        ("", {"WORKER_STATE_ROOM_ID": "r"}, "room_token is missing"),
        ("", {"WORKER_STATE_SIGNAL_BUFFER_BYTES": "0"}, "WORKER_STATE_SIGNAL_BUFFER_BYTES must be a whole number"),
    ],
)
def test_refusal(text: str, variables: dict[str, str], sentence: str) -> None:
    """A value that is no good is refused under the name that the person knows, with its file."""
    with pytest.raises(ConfigError) as refused:
        settings(SERVER + text, **variables).config()
    assert str(refused.value).startswith(sentence)
    assert "s3cret" not in str(refused.value)


def test_no_secret_in_a_repr() -> None:
    """Settings can be printed."""
    assert "slp_s3cret" not in repr(settings(SLEAP_RTC_API_KEY="slp_s3cret"))
