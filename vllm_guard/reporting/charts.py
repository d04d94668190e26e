"""The phases of a run and its memory against time, as SVG. Pure: the page's style sheet gives the colours."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vllm_guard import screen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_guard.reporting import Sample

_WIDTH, _HEIGHT = 1000, 220  #: of the drawing; the page scales it
_LEFT, _BOTTOM, _TOP = 70, 30, 12
_GIB = 1 << 30
_MIB = 1 << 20
_NARROW = 60  #: a bar that is narrower has no room for its name


def timeline(phases: Sequence[Mapping[str, Any]]) -> str:
    """One bar for each phase, as long as it took; empty where nothing took any time."""
    whole = sum(phase["seconds"] for phase in phases)
    if not whole:
        return ""
    begin = phases[0]["started"]
    bars = []
    for number, phase in enumerate(phases):
        left = (phase["started"] - begin) / whole * _WIDTH
        width = max(1.0, phase["seconds"] / whole * _WIDTH)
        name = screen.html(phase["name"])
        label = f'<text x="{left + 6:.1f}" y="27">{name}</text>' if width > _NARROW else ""
        bars.append(
            f'<g class="phase p{number % 6}"><title>{name}: {phase["seconds"]:.1f} s</title>'
            f'<rect x="{left:.1f}" y="4" width="{width:.1f}" height="36" rx="3"/>{label}</g>'
        )
    return _svg(44, "Phases of the run", "".join(bars))


def memory(samples: Sequence[Sample]) -> str:
    """Lines over time: host memory, and each GPU's; empty with fewer than two samples."""
    if len(samples) < 2:
        return ""
    lines = list(_series(samples))
    top = max(max(values) for _, _, values in lines) or 1
    last = samples[-1].at or 1.0
    drawn = [_grid(top, last)]
    for css, name, values in lines:
        points = " ".join(
            f"{_x(sample.at, last):.1f},{_y(value, top):.1f}"
            for sample, value in zip(samples, values, strict=False)
        )
        title = f"{screen.html(name)}: at most {size(max(values))}"
        drawn.append(f'<polyline class="{css}" points="{points}"><title>{title}</title></polyline>')
    drawn += [
        f'<line class="change" x1="{_x(b.at, last):.1f}" x2="{_x(b.at, last):.1f}" y1="{_TOP}" '
        f'y2="{_HEIGHT - _BOTTOM}"><title>{screen.html(b.phase)} from {b.at:.0f} s</title></line>'
        for a, b in pairwise(samples)
        if a.phase != b.phase
    ]
    return _svg(_HEIGHT, "Memory against time", "".join(drawn))


def legend(samples: Sequence[Sample]) -> Iterator[tuple[str, str, int]]:
    """CSS class, name and largest value (bytes) of each line that `memory` draws."""
    for css, name, values in _series(samples):
        yield css, name, max(values)


def size(number: float) -> str:
    """`1.50 GiB`, of less than one `200 MiB`."""
    return f"{number / _GIB:.2f} GiB" if number >= _GIB else f"{number / _MIB:.0f} MiB"


def _series(samples: Sequence[Sample]) -> Iterator[tuple[str, str, list[int]]]:
    yield "host", "host memory of the run's processes", [sample.rss for sample in samples]
    for index in range(min((len(sample.gpu) for sample in samples), default=0)):
        yield f"gpu g{index % 4}", f"GPU {index}", [sample.gpu[index] for sample in samples]


def _grid(top: int, last: float) -> str:
    rows = []
    for part in (0.0, 0.5, 1.0):
        y = _y(top * part, top)
        rows.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{size(top * part)}</text>'
        )
    for part in (0.0, 0.5, 1.0):
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[part]
        rows.append(
            f'<text x="{_x(last * part, last):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">'
            f"{last * part:.0f} s</text>"
        )
    return "".join(rows)


def _x(at: float, last: float) -> float:
    return _LEFT + at / last * (_WIDTH - _LEFT)


def _y(value: float, top: float) -> float:
    return _TOP + (1 - value / top) * (_HEIGHT - _BOTTOM - _TOP)


def _svg(height: int, label: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}" '
        f'preserveAspectRatio="none">{content}</svg>'
    )
