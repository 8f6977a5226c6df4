"""README as a package index shows it, where a relative link leads nowhere: hatchling calls this when it builds.

The project's address is one line of pyproject.toml (`[tool.hatch.metadata.hooks.custom]`). With it links and pictures
lead there, to the version that is built, and the package names it in its metadata. Without it they would be broken, so
a link is its text and a picture is left out.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")
SITES = {"Changelog": "CHANGELOG.md", "Documentation": "docs/index.md"}


def page(readme: str, address: str, version: str) -> str:
    """README with links that lead to `address`, or with none where there is no address."""

    def absolute(link: re.Match[str]) -> str:
        picture, text, target = link.groups()
        if not address:
            return "" if picture else text
        return f"{picture}[{text}]({address}/{'raw' if picture else 'blob'}/v{version}/{target})"

    shown = RELATIVE.sub(absolute, readme)
    return re.sub(r"\n{3,}", "\n\n", shown)


class PackagePage(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        address, version = self.config["address"].rstrip("/"), metadata["version"]
        readme = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": page(readme, address, version)}
        named = {name: f"{address}/blob/v{version}/{path}" for name, path in SITES.items()}
        metadata["urls"] = {"Source": address, **named} if address else {}
