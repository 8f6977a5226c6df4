"""The prose checker: what it finds, and that it reads prose alone."""

from pathlib import Path

import pytest

from docs import words


def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> list[str]:
    """What it says about such a file, with its line."""
    monkeypatch.setattr(words, "ROOT", tmp_path)
    monkeypatch.setattr(words, "settings", lambda: ({"typography.symbols": "why"}, 20))
    (tmp_path / name).write_text(text, "utf-8")
    return [line.split(":", 3)[1] + line.split(":", 3)[2] for line in words.complaints(tmp_path / name)]


def test_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds a word that is there twice and a long sentence on their lines, and looks at no code."""
    long = " ".join(f"word{chr(97 + each)}" for each in range(21))
    page = f"# A page\n\nIt takes the the link.\n\n```sh\nvery the the\n```\n\n- Short.\n- {long}\n\n`very` `very`\n"
    assert found(tmp_path, monkeypatch, "page.md", page) == ["3 lexical_illusions", "10 words.long"]


def test_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads what is public, and neither the code nor what is private."""
    text = '"""It is very big."""'
    source = f'"""Fine."""\n\nvery = 1\n\n\ndef shown():\n    {text}\n\n\ndef _hidden():\n    {text}\n'
    assert found(tmp_path, monkeypatch, "module.py", source) == ["7 weasel_words.very"]
