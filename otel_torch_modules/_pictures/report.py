"""A run as one HTML file that needs nothing else: no network, no server, no library.

What the file says is written here, escaped; its script only draws what stands in the file as JSON. A policy in the file
lets no other script run and nothing be loaded, whatever a module is called.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.finding import Finding
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.table import ModuleRow, own_times
from otel_torch_modules._diagnosis.words import digits, percent
from otel_torch_modules._grammar import counted
from otel_torch_modules._pictures.charts import OTHER, PHASES, Flames, bars, heat, odd_steps

_MOST_ROWS = 40
_MOST_FINDINGS = 12
_COLUMNS = (semconv.PHASE_FORWARD, semconv.PHASE_BACKWARD, semconv.PHASE_RECOMPUTE)
# Which picture shows what a rule has found, if not the steps; the table where it names a place of all steps.
_PICTURES = {"straggler": "ranks", "balanced": "places"}


class Around(NamedTuple):
    """What a report says beside what it finds in the run."""

    title: str
    heading: str
    losses: Sequence[str]  # what of the sources is missing
    footer: str


def report(run: Run, around: Around) -> bytes:
    """Return the page of a run that has a whole step."""
    diagnosis = diagnose(run)
    odd = odd_steps(run)
    ranks = heat(run)
    script = _part("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = {
        "phases": [*PHASES, OTHER],
        "bars": bars(run, odd),
        "heat": ranks,
        "flames": Flames(run, odd).as_json(run),
    }
    steps = counted(len(run.main), "step")
    page = Template(_part("report.html")).substitute(
        title=escape(around.title),
        heading=escape(around.heading),
        verdict=escape(diagnosis.verdict),
        findings="".join(
            _finding(finding, with_ranks=ranks is not None)
            for finding in diagnosis.findings[:_MOST_FINDINGS]
        ),
        losses="".join(f'<p class="soft">{escape(loss)}.</p>' for loss in around.losses)
        + (f'<p class="soft">{escape(said)}</p>' if (said := run.main.told_by.sentence) else ""),
        legend="".join(f'<span class="{phase}">{phase}</span>' for phase in _phases(run)),
        steps_label=escape(f"Time of {steps}, by phase"),
        ranks=_RANKS if ranks else "",
        places="".join(_table(run)),
        footer=escape(around.footer),
        style=_part("report.css"),
        script_hash=f"sha256-{digest}",
        script=script,
        data=_as_data(data),
    )
    return page.encode("utf-8", "replace")


def _phases(run: Run) -> list[str]:
    found = {phase if phase in PHASES else OTHER for phase in run.main.phases}
    return [phase for phase in (*PHASES, OTHER) if phase in found]


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _as_data(value: object) -> str:
    """Return JSON that may stand in a script element: nothing in it ends one, or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finding(finding: Finding, *, with_ranks: bool) -> str:
    picture = _PICTURES.get(finding.rule, "steps")
    if finding.place is not None and not finding.steps:
        picture = "places"
    if picture == "ranks" and not with_ranks:
        picture = "steps"
    cost = percent(finding.cost_share) if finding.cost_share else ""
    marks = f' data-step="{finding.steps[0]}"' if finding.steps else ""
    if finding.place is not None:
        marks += f' data-place="{escape(finding.place)}"'
    sentence = escape(finding.sentence)
    return (
        f'<li><a href="#{picture}"{marks}><b>{cost}</b><i>{escape(finding.rule)}</i>'
        f'<span title="{sentence}">{sentence}</span><em>{_SEEN[picture]}</em></a></li>'
    )


_SEEN = {"steps": "see the steps ↓", "ranks": "see the ranks ↓", "places": "see the table ↓"}
_RANKS = """<section id="ranks" aria-labelledby="ranks-title">
<header><h2 id="ranks-title">Ranks</h2><span class="soft">how long each worked in a step, without its waits for the others in collectives and at the end of backward, beside the ranks' median</span></header>
<canvas id="heat" height="60" tabindex="0" role="application" aria-roledescription="heat map" aria-labelledby="ranks-title" aria-describedby="heat-said"></canvas>
<output id="heat-said" aria-live="polite"></output>
</section>"""  # noqa: E501


def _table(run: Run) -> Iterator[str]:
    rows = own_times(run)
    shown = rows[:_MOST_ROWS]
    phases = [phase for phase in _COLUMNS if any(row.phases.get(phase) for row in shown)]
    whole = max(sum(row.ms for row in rows), 1e-9)
    most = max((row.ms for row in shown), default=1e-9)
    heads = ("place", *(f"{phase} ms" for phase in phases), "sum ms", "%", "each × calls", "")
    cells = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    yield f"<table><thead><tr>{cells}</tr></thead><tbody>"
    for row in shown:
        yield _row(row, phases, whole, most)
    rest = rows[len(shown) :]
    if rest:
        time = sum(row.ms for row in rest)
        yield (
            f"<tr><td>{counted(len(rest), 'other place')}</td>{'<td></td>' * len(phases)}"
            f"<td>{digits(time)}</td><td>{100 * time / whole:.1f}</td><td></td><td></td></tr>"
        )
    yield "</tbody></table>"


def _row(row: ModuleRow, phases: Sequence[str], whole: float, most: float) -> str:
    times = "".join(
        f"<td>{digits(row.phases[phase]) if row.phases.get(phase) else ''}</td>" for phase in phases
    )
    bar = "".join(
        f'<div class="{phase if phase in PHASES else OTHER}" style="width:{100 * time / most:.2f}%"></div>'
        for phase, time in row.phases.items()
        if time > 0
    )
    name = escape(row.name)
    return (
        f'<tr data-place="{name}"><td><span title="{name}">{name}</span></td>{times}<td>{digits(row.ms)}</td>'
        f"<td>{100 * row.ms / whole:.1f}</td><td>{row.each}</td>"
        f'<td><div class="bar" aria-hidden="true">{bar}</div></td></tr>'
    )
