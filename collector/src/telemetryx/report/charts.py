"""A report's plots as SVG inside the page: no script, no font, nothing that is fetched. Each number stands in a table, too."""

from collections.abc import Sequence
from html import escape
from typing import Final

from telemetryx.api.times import format_time
from telemetryx.report.words import AnomalyRow, PeriodRow

WIDTH: Final = 960
_NAMES: Final = 200
_ROW: Final = 22
_TOP: Final = 18
MAX_ROWS: Final = 60
_LONGEST: Final = 26


def share(value: float | None) -> str:
    """Write a share: so many digits that 99.99 % isn't shown as 100 %."""
    if value is None:
        return "n/a"
    percent = 100 * value
    return f"{percent:.0f} %" if percent in {0.0, 100.0} else f"{min(percent, 99.99):.2f} %"


def name_of(site: str) -> str:
    """Write a site's name; readings without one have none."""
    return site or "(no site)"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def strips(periods: Sequence[PeriodRow], measure: str, start_ns: int, end_ns: int) -> str:
    """Draw a strip a site with a cell a period, the fuller the better; a period without an expectation stays empty."""
    sites = list(dict.fromkeys(row.site for row in periods))[:MAX_ROWS]
    places = {site: at for at, site in enumerate(sites)}
    wide = (WIDTH - _NAMES) / (end_ns - start_ns)
    parts = []
    for site, at in places.items():
        y = _TOP + at * _ROW
        parts.append(
            f'<text x="{_NAMES - 8}" y="{y + 14}" class="name">{escape(_short(name_of(site)))}</text>'
        )
    for row in periods:
        value = getattr(row, measure)
        if row.site not in places or value is None:
            continue
        x = _NAMES + (row.start_ns - start_ns) * wide
        y = _TOP + places[row.site] * _ROW
        width = max(1.0, (row.end_ns - row.start_ns) * wide - 1)
        said = escape(f"{name_of(row.site)}, from {format_time(row.start_ns)}: {share(value)}")
        height = 16 * value
        parts.append(
            f'<g><title>{said}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" class="empty"/>'
            f'<rect x="{x:.1f}" y="{y + 16 - height:.1f}" width="{width:.1f}" height="{height:.1f}" class="full"/></g>'
        )
    return _svg(measure, _TOP + len(sites) * _ROW, parts, start_ns, end_ns)


def marks(anomalies: Sequence[AnomalyRow], start_ns: int, end_ns: int) -> str:
    """Draw each stretch at its peak: the higher the score, the larger the mark."""
    sites = sorted({row.site for row in anomalies})[:MAX_ROWS]
    places = {site: at for at, site in enumerate(sites)}
    wide = (WIDTH - _NAMES) / (end_ns - start_ns)
    top = max((row.peak for row in anomalies), default=1.0)
    parts = []
    for site, at in places.items():
        y = _TOP + at * _ROW + 8
        parts.append(f'<line x1="{_NAMES}" y1="{y}" x2="{WIDTH}" y2="{y}" class="line"/>')
        parts.append(
            f'<text x="{_NAMES - 8}" y="{y + 6}" class="name">{escape(_short(name_of(site)))}</text>'
        )
    for row in anomalies:
        if row.site not in places:
            continue
        x = _NAMES + (row.peak_ns - start_ns) * wide
        size = 3 + 6 * min(1.0, row.peak / top)
        said = escape(
            f"{name_of(row.site)}, {row.device or 'no device'}, {format_time(row.peak_ns)}: score {row.peak:.3g}"
        )
        y = _TOP + places[row.site] * _ROW + 8
        parts.append(
            f'<g><title>{said}</title><circle cx="{x:.1f}" cy="{y}" r="{size:.1f}" class="mark"/></g>'
        )
    return _svg("anomalies", _TOP + len(sites) * _ROW, parts, start_ns, end_ns)


def _svg(what: str, height: int, parts: Sequence[str], start_ns: int, end_ns: int) -> str:
    begin, end = format_time(start_ns), format_time(end_ns)
    axis = (
        f'<text x="{_NAMES}" y="12" class="time">{begin}</text>'
        f'<text x="{WIDTH}" y="12" class="time end">{end}</text>'
    )
    label = escape(f"{what} by site, from {begin} to {end}; the tables below have the numbers")
    return f'<svg viewBox="0 0 {WIDTH} {height + 4}" role="img" aria-label="{label}">{axis}{"".join(parts)}</svg>'
