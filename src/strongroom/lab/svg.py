"""Charts as SVG that a page can hold as a picture: bars with their spread, and lines.

The picture follows the reader's scheme, light or dark, needs no font and no script, and says in
`<title>` and `<desc>` what it shows. Numbers are rounded to a tenth of a pixel, so that the same
figures make the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH = 760
LETTER = 7.6
"""The width of a letter of 13 px, about: labels are placed by it."""

COLOURS = 5

STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  fill: #15202b; }
.quiet { fill: #55636f; font-size: 12px; } .strong { font-weight: 600; }
.paper { fill: #ffffff; } .grid { stroke: #dfe4e9; } .one { stroke: #55636f; stroke-dasharray: 3 3; }
.spread { stroke: #15202b; stroke-width: 1.5; }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.c0 { stroke: #0072b2; } .f0 { fill: #0072b2; } .c1 { stroke: #c4490a; } .f1 { fill: #c4490a; }
.c2 { stroke: #00805c; } .f2 { fill: #00805c; } .c3 { stroke: #a2457c; } .f3 { fill: #a2457c; }
.c4 { stroke: #7a6a00; } .f4 { fill: #7a6a00; }
.d1 { stroke-dasharray: 8 4; } .d2 { stroke-dasharray: 2 4; } .d3 { stroke-dasharray: 10 3 2 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e7edf2; } .quiet { fill: #9cabb8; } .paper { fill: #151c23; }
  .grid { stroke: #29343e; } .one { stroke: #9cabb8; } .spread { stroke: #e7edf2; }
  .c0 { stroke: #5cb8ef; } .f0 { fill: #5cb8ef; } .c1 { stroke: #ff9d5c; } .f1 { fill: #ff9d5c; }
  .c2 { stroke: #45d6a5; } .f2 { fill: #45d6a5; } .c3 { stroke: #f0a0cd; } .f3 { fill: #f0a0cd; }
  .c4 { stroke: #e6d54a; } .f4 { fill: #e6d54a; }
}"""


@dataclass(frozen=True)
class Bar:
    """One bar from 1 to `value`, with how far single measurements lay apart."""

    label: str
    value: float
    lowest: float
    highest: float
    text: str


def bars(title: str, says: str, shown: Sequence[Bar]) -> str:
    """Ratios on a logarithmic axis, so that twice and half are as long."""
    left = 24 + LETTER * max((len(one.label) for one in shown), default=0)
    right, row, top = WIDTH - 78, 30, 62
    bottom = top + row * len(shown)
    low = min([0.5, *(one.lowest for one in shown)])
    high = max([2.0, *(one.highest for one in shown)])
    at = _logarithmic(low, high, left, right)
    parts = []
    for tick in _decades(low, high):
        x = at(tick)
        parts += [
            _rule(x, top - 8, x, bottom, "one" if tick == 1 else "grid"),
            _text(x, bottom + 18, f"{tick:g}×", "quiet", "middle"),
        ]
    for place, one in enumerate(shown):
        y = top + row * place + row / 2
        begin, end = sorted((at(1), at(one.value)))
        kind = "f0" if one.value >= 1 else "f1"
        parts += [
            _text(left - 12, y + 4, one.label, "", "end"),
            f'<rect x="{_n(begin)}" y="{_n(y - 8)}" width="{_n(max(end - begin, 1))}" height="16" '
            f'rx="2" class="{kind}"/>',
            _rule(at(one.lowest), y, at(one.highest), y, "spread"),
            _rule(at(one.lowest), y - 5, at(one.lowest), y + 5, "spread"),
            _rule(at(one.highest), y - 5, at(one.highest), y + 5, "spread"),
            _text(WIDTH - 14, y + 4, one.text, "strong", "end"),
        ]
    return _picture(title, says, bottom + 34, parts)


def lines(
    title: str,
    says: str,
    settings: Sequence[str],
    shown: dict[str, Sequence[float]],
    text: Callable[[float], str],
) -> str:
    """A line for each name over settings that stand apart evenly; logarithmic when it is steep."""
    left, right, top, bottom = 76.0, WIDTH - 24.0, 88.0, 320.0
    values = [value for line in shown.values() for value in line]
    if min(values) > 0 and max(values) > STEEP * min(values):
        says = f"{says} The scale is logarithmic."
        low, high = 10.0 ** floor(log10(min(values))), 10.0 ** ceil(log10(max(values)))
        ticks, up = _decades(low, high), _logarithmic(low, high, bottom, top)
    else:
        ticks = _steps(max(values))
        high = ticks[-1]

        def up(value: float) -> float:
            return bottom - (bottom - top) * value / high

    apart = (right - left - 40) / max(1, len(settings) - 1)
    across = [left + 20 + apart * place for place in range(len(settings))]
    parts = []
    for tick in ticks:
        parts += [
            _rule(left, up(tick), right, up(tick), "grid"),
            _text(left - 10, up(tick) + 4, text(tick), "quiet", "end"),
        ]
    for x, setting in zip(across, settings, strict=True):
        parts.append(_text(x, bottom + 20, setting, "quiet", "middle"))
    key = left
    for number, (name, line) in enumerate(shown.items()):
        kind = number % COLOURS
        points = [(x, up(value)) for x, value in zip(across, line, strict=True)]
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        parts.append(f'<polyline points="{path}" class="line c{kind} d{number}"/>')
        parts += [f'<circle cx="{_n(x)}" cy="{_n(y)}" r="4" class="f{kind}"/>' for x, y in points]
        parts += [
            _rule(key, 66, key + 26, 66, f"line c{kind} d{number}"),
            _text(key + 34, 70, name),
        ]
        key += 34 + LETTER * len(name) + 26
    return _picture(title, says, bottom + 38, parts)


STEEP = 30
"""From here on the smaller values would lie on the axis."""


def _picture(title: str, says: str, height: float, parts: Sequence[str]) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(height)}" '
        f'width="{WIDTH}" height="{_n(height)}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(says)}</desc>',
        f"<style>\n{STYLE}\n</style>",
        '<rect class="paper" width="100%" height="100%" rx="8"/>',
        _text(20, 28, title, "strong"),
        _text(20, 46, says, "quiet"),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kinds = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{kinds}>'
        f"{escape(text, quote=False)}</text>"
    )


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class="{kind}"/>'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _logarithmic(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = log10(high) - log10(low)
    return lambda value: begin + (end - begin) * (log10(value) - log10(low)) / span


def _decades(low: float, high: float) -> list[float]:
    """1, 10, 100 … within the bounds; with 2 and 5 between them where there are few."""
    digits = (1,) if high / low > 1000 else (1, 2, 5)
    found = [
        digit * 10.0**power
        for power in range(floor(log10(low)), ceil(log10(high)) + 1)
        for digit in digits
    ]
    return [tick for tick in found if low <= tick <= high]


def _steps(most: float) -> list[float]:
    """Four to eight round steps from zero to above the most."""
    if most <= 0:
        return [0.0, 1.0]
    size = 10.0 ** floor(log10(most))
    step = next(size * part for part in (0.2, 0.25, 0.5, 1, 2) if most / (size * part) <= 6)
    return [step * number for number in range(ceil(most / step) + 1)]
