"""What a worker is told at construction: everything wrong is refused by a sentence that names the field."""

import copy
import json
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import FrozenInstanceError, asdict, fields, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_state.advertised import TAGS, thawed
from worker_state.config import Config, Timing
from worker_state.errors import ConfigError, WorkerStateError
from worker_state.protocol.frames import encode
from worker_state.protocol.record import build_record
from worker_state.protocol.status import Available

WS, HTTP = "ws://localhost:8080/", "http://localhost:8001/"
SECRET = "s3cr3t"


def config(**given_: Any) -> Config:
    return Config(**{"websocket_url": WS, "http_url": HTTP, **given_})


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    """With the two URLs alone a worker creates a room of its own and carries the tags that clients search for."""
    plain = config()
    assert plain.creates_room
    assert plain.tags == TAGS == ("sleap-rtc", "training-worker", "inference-worker")
    assert dict(plain.capabilities) == {}
    assert plain.timing == Timing()
    assert plain.show_session_string


def test_given_room() -> None:
    """With a room and its token the worker creates none."""
    assert not config(room_id="r", room_token="t").creates_room


def test_api_key() -> None:
    """With an API key the worker creates no room."""
    assert not config(api_key="slp_x").creates_room


@pytest.mark.parametrize(
    "url",
    [
        "ws://localhost",
        "wss://example.org",
        "ws://127.0.0.1:8080/",
        "ws://[::1]:8080/ws",
        "ws://[fe80::1%25eth0]/",
        "WS://EXAMPLE.ORG:65535/",
        "wss://example.org/path?deployment=2",
    ],
)
def test_websocket_urls(url: str) -> None:
    """Host names, addresses of both families, ports, paths and queries are accepted for the WebSocket."""
    assert config(websocket_url=url).websocket_url == url


@pytest.mark.parametrize("url", ["http://localhost:8001", "https://example.org/api/", "http://[::1]:8001"])
def test_http_urls(url: str) -> None:
    """Host names, addresses of both families, ports and paths are accepted for HTTP."""
    assert config(http_url=url).http_url == url


def test_tags() -> None:
    """Tags may come as a list, lose their repetitions and keep their order."""
    assert config(tags=["b", "a", "b"]).tags == ("b", "a")


def test_capabilities() -> None:
    """Capabilities of all the types that clients compare are taken over, lists as tuples."""
    given_ = {
        "gpu_memory_mb": 24576,
        "max_concurrent_jobs": 1.5,
        "gpu_model": "NVIDIA RTX A5000",
        "supported_models": ["base", "centroid"],
        "supported_job_types": (),
        "spot": False,
        "factor": 0.5,
    }
    assert dict(config(capabilities=given_).capabilities) == {**given_, "supported_models": ("base", "centroid")}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"tags": ["a", "b\ud800"]}, "tags"),
        ({"capabilities": {"gpu_model": "\udc80"}}, r"capabilities\['gpu_model'\]"),
        ({"capabilities": {"mounts": [{"path\ud800": 1}]}}, r"capabilities\['mounts'\]"),
        ({"capabilities": {"\ud800": 1}}, r"capabilities\['\\ud800'\]"),
    ],
)
def test_half_a_character(changes: dict[str, Any], where: str) -> None:
    """A lone surrogate, as in a file name that is no UTF-8, is refused: not every client could read it (F27)."""
    with pytest.raises(ConfigError, match=f"{where} must be text that UTF-8 can say"):
        config(**changes)
    assert config(tags=["a😀"]).tags == ("a😀",)


def test_free_capabilities() -> None:
    """Under a name that the field does not define any JSON value goes, and nobody can change it afterwards."""
    mounts: list[Any] = [{"path": "/data", "label": None}]
    made = config(capabilities={"mounts": mounts, "worker_name": None})
    mounts[0]["path"] = "/"
    assert thawed(made.capabilities) == {"mounts": [{"path": "/data", "label": None}], "worker_name": None}
    with pytest.raises(TypeError):
        made.capabilities["mounts"][0]["path"] = "/"
    assert pickle.loads(pickle.dumps(made)) == made


def test_deep_capabilities() -> None:
    """A value that is nested too deeply for a JSON parser is refused at construction."""
    value: Any = None
    for _ in range(10_000):
        value = [value]
    with pytest.raises(ConfigError, match=r"^capabilities\['deep'\] must not be nested more than 32 levels"):
        config(capabilities={"deep": value})


def test_too_much_to_register() -> None:
    """A record at which every server would close the connection is refused at construction, in words."""
    words = r"^tags and capabilities must not take more than 524288 bytes, these take 6\d{5}$"
    with pytest.raises(ConfigError, match=words):
        config(capabilities={"notes": "é" * 100_000})
    with pytest.raises(ConfigError, match=words):
        config(tags=["é" * 100_000])


def test_as_a_dict() -> None:
    """`dataclasses.asdict` gives plain values, which JSON can write."""
    values = asdict(config(capabilities={"mounts": [{"path": "/"}], "gpu_memory_mb": 1}))
    assert json.loads(json.dumps(values))["capabilities"] == {"mounts": [{"path": "/"}], "gpu_memory_mb": 1}


def test_hash() -> None:
    """Equal configurations have one hash, so that they can stand in a set."""
    assert len({config(capabilities={"mounts": [1]}), config(capabilities={"mounts": [1]}), config()}) == 2


def test_keys_with_a_room() -> None:
    """An API key may come with a room, with or without its token; the room is then somebody else's."""
    made = config(api_key="slp_acct_x", room_id="r")
    assert made.key_credentials == {"api_key": "slp_acct_x", "room_id": "r"}
    assert made.keeps_room
    assert config(api_key="slp_x", room_id="r", room_token="t").key_credentials["token"] == "t"
    assert config(room_id="r", room_token="t").key_credentials == {}


def test_immutable() -> None:
    """Neither the configuration nor its capabilities can be changed, not even through what they were made from."""
    models = ["base"]
    given_: dict[str, Any] = {"supported_models": models}
    made = config(capabilities=given_)
    models.append("topdown")
    given_["gpu_memory_mb"] = 1
    assert dict(made.capabilities) == {"supported_models": ("base",)}
    with pytest.raises(TypeError):
        made.capabilities["gpu_memory_mb"] = 1  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        made.room_id = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("websocket_url", "http_url", "exposed"),
    [
        (WS, HTTP, ()),
        ("ws://127.0.0.9:1/", "http://[::1]/", ()),
        ("ws://LOCALHOST/", "https://example.org/", ()),
        ("wss://example.org/", "https://10.0.0.1/", ()),
        ("WSS://example.org/", "HTTPS://example.org/", ()),
        ("ws://10.0.0.1/", HTTP, ("ws://10.0.0.1/",)),
        (WS, "http://example.org/", ("http://example.org/",)),
        ("ws://[2001:db8::1]/?a=s3cr3t", "http://0.0.0.0/", ("ws://[2001:db8::1]/", "http://0.0.0.0/")),
        ("ws://localhost.example.org/", HTTP, ("ws://localhost.example.org/",)),
    ],
)
def test_exposed_urls(websocket_url: str, http_url: str, exposed: tuple[str, ...]) -> None:
    """Tokens are exposed where they travel unencrypted to anything but loopback; a query is not shown."""
    assert config(websocket_url=websocket_url, http_url=http_url).exposed_urls == exposed


def test_reservation_limit() -> None:
    """A reservation has no end of its own unless the worker is given one."""
    assert config().reservation_limit is None
    assert config(reservation_limit=60).reservation_limit == 60


def test_replace() -> None:
    """A changed copy is checked like a new one."""
    made = config(capabilities={"gpu_memory_mb": 1})
    assert replace(made, tags=("x",)).capabilities == made.capabilities
    with pytest.raises(ConfigError, match="tags"):
        replace(made, tags=())


def test_repr() -> None:
    """The repr shows where the worker goes and none of its secrets."""
    made = config(room_id="ROOM", room_token=SECRET)
    assert SECRET not in repr(made)
    assert "ROOM" in repr(made)
    assert SECRET not in repr(config(api_key=f"slp_{SECRET}"))


def test_error_is_a_value_error() -> None:
    """A `ConfigError` is a `ValueError` and an error of this package."""
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, WorkerStateError)


# --- what is refused --------------------------------------------------------------------------------------------------

BAD: list[tuple[str, dict[str, Any], str]] = [
    *(
        (field, {field: url}, said)
        for field, scheme in (("websocket_url", "ws"), ("http_url", "http"))
        for url, said in (
            (None, f"a string that begins with {scheme}:// or {scheme}s://, not NoneType"),
            (b"ws://localhost", "not bytes"),
            (7, "not int"),
            ("", "must begin with"),
            ("localhost", "must begin with"),
            ("localhost:8080", "must begin with"),
            ("ftp://localhost", "not 'ftp://'"),
            (f"{scheme}:", "has no host name"),
            (f"{scheme}://", "has no host name"),
            (f"{scheme}:///path", "has no host name"),
            (f"{scheme}://:8080", "has no host name"),
            (f"{scheme}://localhost:0/", "port 0"),
            (f"{scheme}://localhost:99999/", "host or port cannot be read"),
            (f"{scheme}://localhost:-1/", "host or port cannot be read"),
            (f"{scheme}://localhost:http/", "host or port cannot be read"),
            (f"{scheme}://[::1/", "host or port cannot be read"),
            (f"{scheme}://user@localhost/", "user name or password"),
            (f"{scheme}://user:{SECRET}@localhost/", "user name or password"),
            (f"{scheme}://:{SECRET}@localhost/", "user name or password"),
            (f"{scheme}://local host/", "white space"),
            (f"{scheme}://localhost/\n", "control character"),
            (f" {scheme}://localhost/", "white space"),
            (f"{scheme}://localhost/\x7f", "control character"),
            (f"{scheme}://localhost/#part", "nothing after a '#'"),
        )
    ),
    ("websocket_url", {"websocket_url": HTTP}, "must begin with ws:// or wss://, not 'http://'"),
    ("http_url", {"http_url": WS}, "must begin with http:// or https://, not 'ws://'"),
    ("http_url", {"http_url": "http://localhost/?a=b"}, "'#' or '?'"),
    ("room_token", {"room_id": "r"}, "together"),
    ("room_id", {"room_token": SECRET}, "together"),
    ("room_id", {"room_id": "", "room_token": SECRET}, "must not be empty"),
    ("room_token", {"room_id": "r", "room_token": ""}, "must not be empty"),
    ("room_token", {"room_id": "r", "room_token": " \t"}, "must not be empty"),
    ("room_id", {"room_id": 7, "room_token": SECRET}, "must be a string, not int"),
    ("room_token", {"room_id": "r", "room_token": 123456}, "must be a string, not int"),
    ("api_key", {"api_key": ""}, "must not be empty"),
    ("api_key", {"api_key": SECRET}, "must begin with 'slp_'"),
    ("api_key", {"api_key": b"slp_x"}, "must be a string, not bytes"),
    ("room_id", {"api_key": f"slp_acct_{SECRET}"}, "an account key"),
    *(("peer_id", {"peer_id": peer_id}, said) for peer_id, said in (
        ("", "1 to 512 characters, this one has 0"),
        ("x" * 513, "this one has 513"),
        (7, "must be a string, not int"),
        (" x", "white space around"),
        ("x\n", "printable"),
    )),
    *(("admin", {"admin": value}, "True or False") for value in (None, 1, "yes")),
    *(("tags", {"tags": tags}, said) for tags, said in (
        ("sleap-rtc", "must be a list of strings, not str"),
        (None, "not NoneType"),
        ({"a"}, "not set"),
        ((), "must not be empty"),
        ([], "must not be empty"),
        (("a", ""), "non-empty strings"),
        (("a", None), "non-empty strings"),
        ((b"a",), "non-empty strings"),
        ((["a"],), "non-empty strings"),
    )),
    ("capabilities", {"capabilities": None}, "must be a mapping"),
    ("capabilities", {"capabilities": [("a", 1)]}, "must be a mapping"),
    *(("capabilities", {"capabilities": {name: value}}, said) for name, value, said in (
        ("status", "available", "'status': the status belongs to the manager"),
        ("current_job_id", None, "'current_job_id': the status belongs"),
        ("pending_job_id", "x", "'pending_job_id': the status belongs"),
        ("", 1, "non-empty strings as names"),
        (7, 1, "non-empty strings as names"),
        (None, 1, "non-empty strings as names"),
        ("owner", {7: "x"}, "capabilities['owner'] must have strings as names, not int"),
        ("owner", [{"n": float("inf")}], "capabilities['owner'] must be a finite number"),
        ("owner", b"x", "capabilities['owner']"),
        ("owner", {"x"}, "capabilities['owner']"),
        ("owner", 1j, "capabilities['owner']"),
        ("owner", [{"x": b"y"}], "capabilities['owner'] must be what JSON can say, not bytes"),
        ("factor", float("nan"), "capabilities['factor'] must be a finite number"),
        ("factor", float("inf"), "capabilities['factor'] must be a finite number"),
        ("gpu_memory_mb", "24576", "capabilities['gpu_memory_mb'] must be a number, not str"),
        ("gpu_memory_mb", True, "capabilities['gpu_memory_mb'] must be a number, not bool"),
        ("gpu_memory_mb", float("-inf"), "capabilities['gpu_memory_mb'] must be a finite number"),
        ("max_concurrent_jobs", None, "capabilities['max_concurrent_jobs'] must be a number"),
        ("gpu_model", 5000, "capabilities['gpu_model'] must be a string"),
        ("cuda_version", 12.4, "capabilities['cuda_version'] must be a string"),
        ("hostname", None, "capabilities['hostname'] must be a string"),
        ("sleap_version", ("1", "4"), "capabilities['sleap_version'] must be a string"),
        ("supported_models", "base", "capabilities['supported_models'] must be a list of strings, not str"),
        ("supported_job_types", {"training"}, "capabilities['supported_job_types'] must be a list of strings"),
        ("supported_models", [1], "capabilities['supported_models'] must contain strings only"),
    )),
    ("timing", {"timing": None}, "must be a Timing, not NoneType"),
    ("timing", {"timing": {"connect": 1}}, "must be a Timing, not dict"),
    *(
        ("reservation_limit", {"reservation_limit": value}, "number of seconds")
        for value in (0, -1.0, True, "60", float("nan"), float("inf"))
    ),
    *(("show_session_string", {"show_session_string": value}, "True or False") for value in (None, 1, "yes")),
    *(("signal_buffer", {"signal_buffer": value}, "at least 1") for value in (0, -1, True, 1.5, "8", None)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "given_", "said"), BAD, ids=[f"{number}-{field}" for number, (field, *_) in enumerate(BAD)]
)
def test_refused(field: str, given_: dict[str, Any], said: str) -> None:
    """Every wrong field is refused by a sentence that names it, says what is wrong and shows no secret."""
    with pytest.raises(ConfigError) as caught:
        config(**given_)
    sentence = str(caught.value)
    assert sentence.startswith(field)
    assert said in sentence
    assert SECRET not in sentence
    assert "123456" not in sentence


@pytest.mark.parametrize("name", [each.name for each in fields(Timing)])
@pytest.mark.parametrize("value", [0, 0.0, -1, float("nan"), float("inf"), True, False, "10", None, 1j, [10]])
def test_bad_timing(name: str, value: Any) -> None:
    """Every time that is no positive finite number of seconds is refused by a sentence that names it."""
    with pytest.raises(ConfigError, match=f"^timing.{name} must be a (positive )?number of seconds"):
        Timing(**{name: value})


@pytest.mark.parametrize("name", [each.name for each in fields(Timing)])
@pytest.mark.parametrize("value", [1, 0.001, 86_400.0])
def test_good_timing(name: str, value: float) -> None:
    """Every time may be any positive number of seconds, whole or not."""
    assert getattr(Timing(**{name: value}), name) == value


# Python refuses to turn the first into a float and the second into text, each by an exception of its own.
HUGE = [pytest.param(10**400, id="10**400"), pytest.param(10**5_000, id="10**5000")]


@pytest.mark.parametrize("value", HUGE)
def test_huge_time(value: int) -> None:
    """A time that is no float can hold is refused like any other that is too long."""
    with pytest.raises(ConfigError, match=r"^timing\.register"):
        Timing(register=value)


def test_huge_capability() -> None:
    """A number too long for JSON is refused at construction, not found out at the first registration."""
    with pytest.raises(ConfigError, match="gpu_memory_mb"):
        config(capabilities={"gpu_memory_mb": 10**5_000})


@pytest.mark.parametrize(
    ("field", "given_"),
    [
        ("tags", {"tags": (10**5_000,)}),
        ("capabilities", {"capabilities": {10**5_000: 1}}),
        ("capabilities", {"capabilities": {"owner": {"n": 10**5_000}}}),
    ],
)
def test_huge_number_in_the_wrong_place(field: str, given_: dict[str, Any]) -> None:
    """A number whose repr cannot be made is refused by the field's name all the same."""
    with pytest.raises(ConfigError, match=field):
        config(**given_)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.sampled_from(["\ud800", object(), int, float("nan"), WS, HTTP, "slp_x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.just("gpu_memory_mb"), inner, max_size=3)
    ),
    max_leaves=6,
)
urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["ws", "wss", "http", "https", "", "WS"]),
    st.text(alphabet="ab.:[]@%1é \t\\", max_size=12) | st.text(max_size=6),
    st.sampled_from(["", ":80", ":0", ":99999", ":x"]),
    st.sampled_from(["", "/", "/path?a=b", "#x"]) | st.text(max_size=6),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "websocket_url": urls | anything,
            "http_url": urls | anything,
            "room_id": anything,
            "room_token": anything,
            "api_key": anything,
            "tags": anything,
            "capabilities": anything,
            "timing": anything,
            "reservation_limit": anything,
            "show_session_string": anything,
            "signal_buffer": anything,
        },
    )
)
def test_nothing_but_config_errors(given_: dict[str, Any]) -> None:
    """Whatever a configuration is made of, it is refused by a `ConfigError` or can be registered with."""
    try:
        made = config(**given_)
    except ConfigError:
        return
    assert isinstance(made.capabilities, Mapping)
    encode(build_record(made.tags, made.capabilities, Available()))


@given(st.sampled_from([each.name for each in fields(Timing)]), anything)
def test_nothing_but_config_errors_for_timing(name: str, value: Any) -> None:
    """Whatever a time is said to be, it is accepted or refused by a `ConfigError`."""
    with suppress(ConfigError):
        Timing(**{name: value})


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_copies(copied: Callable[[Config], Config]) -> None:
    """A configuration can be copied, and pickled for another process; the copy is as strict as the original."""
    config = Config(
        "ws://localhost/?key=k",
        "http://localhost",
        api_key="slp_x",
        capabilities={"gpu_model": "A", "supported_models": ["m"]},
        timing=Timing(exit=1.0),
    )
    copy_ = copied(config)
    assert copy_ == config
    with pytest.raises(TypeError):
        copy_.capabilities["gpu_model"] = "B"  # type: ignore[index]


@pytest.mark.parametrize("url", ["127.0.0.1:80/?token=hushhush", "example.org?token=hushhush"])
def test_a_refused_url_keeps_its_query(url: str) -> None:
    """What may be a token does not stand in the complaint about a URL without a scheme."""
    with pytest.raises(ConfigError, match="must begin with") as caught:
        Config(url, "http://localhost")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "values", "sentence"),
    [
        (partial(Config, "ws://a", "http://a"), {"tag": ["x"]}, "Config has no field 'tag'; did you mean 'tags'?"),
        (partial(replace, Config("ws://a", "http://a")), {"peerid": "x"}, "Config has no field 'peerid'; did you mean"),
        (Timing, {"htp": 1.0}, "Timing has no field 'htp'; did you mean 'http'?"),
        (Timing, {"xyz": 1.0}, "Timing has no field 'xyz': they are register, answer, "),
    ],
)
def test_a_misspelt_field(make: Callable[..., object], values: dict[str, Any], sentence: str) -> None:
    """A field that is misspelt is named, with the nearest one."""
    with pytest.raises(TypeError) as refused:
        make(**values)
    assert str(refused.value).startswith(sentence)
