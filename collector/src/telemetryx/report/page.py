"""A report as one HTML file: plots and tables, no script, nothing fetched; every text from the field is escaped.

The policy in its head lets a browser run or load nothing, whatever a name may hold.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

import telemetryx
from telemetryx.api.times import format_duration, format_time
from telemetryx.report.charts import MAX_ROWS, marks, name_of, share, strips
from telemetryx.report.words import Report

_STYLE: Final = """
:root{color-scheme:light dark;--text:#1a1d21;--back:#fff;--soft:#dfe3e8;--full:#1f6f8b;--mark:#b3412e}
@media (prefers-color-scheme:dark){:root{--text:#e6e8eb;--back:#15181c;--soft:#343a41;--full:#5fb4cf;--mark:#f08a76}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:64rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--soft);overflow-wrap:anywhere;white-space:pre-wrap}
.number{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto}svg text{fill:var(--text);font-size:12px}.name,.end{text-anchor:end}
.empty{fill:var(--soft)}.full{fill:var(--full)}.mark{fill:var(--mark);fill-opacity:.75}.line{stroke:var(--soft)}
@media print{body{max-width:none}}
"""
_TERMS: Final = (
    "<p>Completeness: readings, of those that each series' usual interval lets expect. Availability: time in which "
    "anything of the site was heard; a pause of more than three intervals is none. Anomalies: stretches with a score "
    "above 1.</p>"
)
_SERIES: Final = 50
"""Series that the page lists."""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


_VISIBLE: Final = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"},
    127: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD),
}
"""Controls in a name, and what reorders the text around it, as signs: HTML has no way to write most of them."""


def write(report: Report) -> str:
    """Write the page."""
    begin, end = format_time(report.start_ns), format_time(report.end_ns)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Report, {begin} to {end}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Report</h1><p>{begin} to {end} (UTC), by {format_duration(report.period_ns)}.</p>",
    ]
    if report.notes:
        parts.append(_listed(report.notes))
    if not report.sites:
        parts.append("<p>There are no readings in this time.</p>")
    else:
        parts += _filled(report)
    parts.append(f"<p>TelemetryX {escape(telemetryx.__version__)}</p></body></html>\n")
    return "".join(parts).translate(_VISIBLE)


def _filled(report: Report) -> list[str]:
    span = (report.start_ns, report.end_ns)
    out = [
        "<h2>Sites</h2>",
        _table(
            ("site", "devices", "series", "readings", "completeness", "availability", "anomalies"),
            [
                (
                    name_of(row.site), f"{row.devices:,}", f"{row.series:,}", f"{row.readings:,}", share(row.completeness),
                    share(row.availability), f"{row.anomalies:,}",
                )
                for row in report.sites
            ],
            text=1,
        ),
        _TERMS,
        "<h2>Availability</h2>", strips(report.periods, "availability", *span),
        "<h2>Completeness</h2>", strips(report.periods, "completeness", *span),
    ]  # fmt: skip
    if len(report.sites) > MAX_ROWS:
        out.append(
            f"<p>Drawn are the first {MAX_ROWS} of {len(report.sites)} sites; the tables have all.</p>"
        )
    out.append("<h2>Highest scores</h2>")
    if report.anomalies:
        rows = [
            (
                name_of(row.site), row.device, row.agent, format_time(row.start_ns), format_time(row.end_ns),
                f"{row.peak:.3g}",
            )
            for row in report.anomalies
        ]  # fmt: skip
        out += [
            marks(report.anomalies, *span),
            _table(("site", "device", "agent", "from", "to", "score"), rows, text=5),
        ]
    else:
        out.append("<p>No score was above 1.</p>")
    out += ["<h2>Least complete series</h2>", _series(report)]
    if len(report.series) > _SERIES:
        out.append(f"<p>{len(report.series) - _SERIES} more are in series.csv (--csv).</p>")
    out += ["<h2>Sites by period</h2>", _periods(report)]
    if report.left_out:
        out += ["<h2>Not listed</h2>", _listed(report.left_out)]
    return out


def _listed(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in sentences) + "</ul>"


def _series(report: Report) -> str:
    rows = []
    for row in report.series[:_SERIES]:
        interval = "n/a" if row.interval_s is None else f"{row.interval_s:g} s"
        labels = ", ".join(f"{name}={value}" for name, value in sorted(row.labels.items()))
        rows.append(
            (
                row.name, labels, row.agent, interval, f"{row.readings:,}", f"{row.expected:,}", share(row.completeness),
                share(row.availability), f"{row.longest_pause_s:g} s",
            )
        )  # fmt: skip
    heads = (
        "series",
        "labels",
        "agent",
        "interval",
        "readings",
        "expected",
        "completeness",
        "availability",
        "longest pause",
    )
    return _table(heads, rows, text=3)


def _periods(report: Report) -> str:
    rows = [
        (
            name_of(row.site), format_time(row.start_ns), f"{row.readings:,}", share(row.completeness),
            share(row.availability), f"{row.anomalies:,}",
        )
        for row in report.periods
    ]  # fmt: skip
    return _table(("site", "from", "readings", "completeness", "availability", "anomalies"), rows, text=2)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], text: int) -> str:
    """Write a table; the first `text` columns are texts, the others numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        opened = [f"<{tag}>" if at < text else f'<{tag} class="number">' for at in range(len(row))]
        return "".join(f"{begin}{escape(cell)}</{tag}>" for begin, cell in zip(opened, row, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"
