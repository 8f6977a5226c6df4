"""The Kubernetes example against the schemas of three versions, strictly: an unknown field is an error."""

import subprocess
from pathlib import Path

import pytest

from tests.operations.ops import needs

pytestmark = pytest.mark.operations

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes.yaml"
VERSIONS = ("1.29.0", "1.33.0", "1.37.0")


def validated(file: Path, version: str) -> subprocess.CompletedProcess[str]:
    words = [str(needs("kubernetes-validate")), "--strict", "--kubernetes-version", version, str(file)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_is_valid(version: str) -> None:
    """Every field is one that this version knows, with a value that it takes."""
    done = validated(EXAMPLE, version)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("terminationGracePeriodSeconds:", "terminationGracePeriod:"), ("periodSeconds: 10", "periodSeconds: often")],
)
def test_a_mistake_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    """A name that does not exist, or a text where a number belongs, is an error: the tool does look."""
    text = EXAMPLE.read_text("utf-8")
    assert right in text
    broken = tmp_path / "broken.yaml"
    broken.write_text(text.replace(right, wrong), "utf-8")
    assert validated(broken, VERSIONS[-1]).returncode != 0
