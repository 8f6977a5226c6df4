"""Small pictures as SVG: boxes, lanes and arrows. Light and dark, without anything from outside."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

LIGHT = {
    ".card": "fill: #ffffff; stroke: #d8dee4",
    ".box": "fill: #f3f6f9; stroke: #57606a",
    ".own": "fill: #dff0ff; stroke: #0969da",
    "text": "fill: #1f2328",
    ".small": "fill: #57606a",
    ".halo": "stroke: #ffffff",
    ".line": "stroke: #57606a",
    ".faint": "stroke: #d0d7de",
    ".tip": "fill: #57606a",
    ".dot": "fill: #0969da",
    ".ring": "fill: #ffffff; stroke: #0969da",
}
DARK = {
    ".card": "fill: #16191d; stroke: #3d444d",
    ".box": "fill: #22272e; stroke: #9198a1",
    ".own": "fill: #10304f; stroke: #4493f8",
    "text": "fill: #e6edf3",
    ".small": "fill: #9ea7b3",
    ".halo": "stroke: #16191d",
    ".line": "stroke: #9198a1",
    ".faint": "stroke: #30363d",
    ".tip": "fill: #9198a1",
    ".dot": "fill: #4493f8",
    ".ring": "fill: #16191d; stroke: #4493f8",
}
BOTH = {
    "text": "font: 13px -apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif",
    ".small": "font-size: 11.5px",
    ".code": "font: 12px ui-monospace, Menlo, 'DejaVu Sans Mono', monospace",
    ".bold": "font-weight: 600",
    ".halo": "paint-order: stroke; stroke-width: 8px; stroke-linejoin: round",
    ".line": "fill: none; stroke-width: 1.3",
    ".faint": "fill: none",
    ".ring": "stroke-width: 1.5",
    ".good": "fill: #8fd19e",
    ".bad": "fill: #f5a8a0",
    ".mid": "fill: #f6d78a",
    ".calm": "fill: #a9d1ff",
    ".small.inside": "fill: #1f2328",
}


def _rules(colours: dict[str, str]) -> str:
    return "\n".join(f"{name} {{ {what} }}" for name, what in colours.items())


STYLE = "\n".join([_rules(LIGHT), _rules(BOTH), "@media (prefers-color-scheme: dark) {", _rules(DARK), "}"])


@dataclass
class Drawing:
    """One picture; its methods add to it, in pixels from the upper left corner."""

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Words around, from or up to `x`; `y` is their base line."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def rect(self, x: float, y: float, width: float, height: float, kind: str = "box", round_: float = 6) -> None:
        """A rectangle with round corners."""
        size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_:g}"'
        self.parts.append(f'<rect {size} class="{kind}"/>')

    def box(self, x: float, y: float, width: float, height: float, lines: Sequence[str], kind: str = "box") -> None:
        """A rectangle with words: the first line is its name."""
        self.rect(x, y, width, height, kind)
        top = y + height / 2 - 8.5 * (len(lines) - 1) + 4.5
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + 17 * number, line, "small" if number else "bold")

    def circle(self, x: float, y: float, radius: float, kind: str) -> None:
        """A dot or a ring."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{kind}"/>')

    def line(
        self, points: Iterable[tuple[float, float]], kind: str = "line", tip: bool = True, both: bool = False
    ) -> None:
        """A line through these points, with an arrow's tip at its end (or both)."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        self.path(path, kind, tip, both)

    def path(self, path: str, kind: str = "line", tip: bool = True, both: bool = False) -> None:
        """Any path of SVG."""
        ends = ' marker-end="url(#tip)"' * tip + ' marker-start="url(#tip)"' * both
        self.parts.append(f'<path d="{path}" class="{kind}"{ends}/>')

    def svg(self) -> str:
        """The file."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        marker = (
            '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z" class="tip"/></marker>'
        )
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{escape(self.title)}</title>'
        card = f'<rect x="0.5" y="0.5" width="{self.width - 1:g}" height="{self.height - 1:g}" rx="8" class="card"/>'
        return "\n".join(
            [head, f"<style>\n{STYLE}\n</style>", f"<defs>{marker}</defs>", card, *self.parts, "</svg>", ""]
        )
