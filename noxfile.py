"""`make matrix`: the tests on each Python that is here, with the lowest and the newest versions that a user may have.

The Pythons and the lowest versions are read from `pyproject.toml`. Interpreters are looked for on the PATH.
"""

import shutil
import subprocess
from pathlib import Path

import nox
from packaging.requirements import Requirement

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
VERSIONS = nox.project.python_versions(PROJECT)  # its classifiers
TOOLS = {"hypothesis", "packaging", "pytest", "pytest-trio", "pytest-xdist", "wsproto"}
"""What the tests need, as it is locked. Selenium asks for a newer trio: the browser's tests are left to `make test`."""
CHOSEN = [
    "--ignore=tests/browser",
    "-m",
    "not slow and not operations",
    "-p",
    "no:cacheprovider",
    "--dist",
    "loadgroup",
]

nox.options.error_on_missing_interpreters = False
nox.options.stop_on_first_error = False


def answers(version: str) -> bool:
    """Whether this Python is here. pyenv leaves a command for each that it has, and those that are off fail."""
    found = shutil.which(f"python{version}")
    return found is not None and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0


def lowest() -> list[str]:
    """The lowest versions that `pyproject.toml` allows of the dependencies, and of what the extras add."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = map(Requirement, {*PROJECT["project"]["dependencies"], *(each for extra in extras for each in extra)})
    return sorted(f"{each.name}=={bound.version}" for each in wanted for bound in each.specifier)


def tools() -> list[str]:
    """What the tests need, at the versions of the lock."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [line.removesuffix("\\").strip() for line in lines if line.partition("==")[0] in TOOLS]
    assert len(pins) == len(TOOLS)
    return pins


HERE = [version for version in VERSIONS if answers(version)]


@nox.session(python=HERE)
@nox.parametrize("versions", ["lowest", "newest"])
def tests(session: nox.Session, versions: str) -> None:
    """All but the slow tests."""
    session.install("--editable", ".[all]", *tools(), *(lowest() if versions == "lowest" else ()))
    session.run("python", "-m", "pip", "list", "--format", "freeze", "--exclude-editable")
    session.run("python", "-m", "pytest", *CHOSEN, *(session.posargs or ["-n", "2"]))


@nox.session(python=False)
@nox.parametrize("version", [version for version in VERSIONS if version not in HERE])
def missing(session: nox.Session, version: str) -> None:
    """Says which Python is not here."""
    session.skip(f"Python {version} was not tested: there is no python{version} on the PATH")
