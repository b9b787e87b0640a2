"""A report in a real browser: it is drawn, asks for nothing, is used by keys, and runs nothing but its own script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._pictures.report import Around, report
from otel_torch_modules._shape import Shape, Site
from otel_torch_modules._trace import Span, Trace
from tests.support.browser import Browser, Page, browser
from tests.unit.diagnosis.steps import Parts, make_steps

AROUND = Around("train: 60 steps", "train · 60 steps", (), "Written from a test.")
EVIL = "</script><img src=x onerror=hacked=1>\"'&<!--<script>${hacked=1}"


def slow_at(*steps: int) -> Any:
    def change(step: int, parts: Parts) -> None:
        if step in steps:
            parts["backward GPT.h.2.mlp"] += 30

    return change


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three ranks, the last of which is slow in step 40; so are all in step 20."""
    steps = [
        step
        for rank in range(3)
        for step in make_steps(60, slow_at(20, *([40] if rank == 2 else [])), rank=rank, seed=rank)
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(report(Run(steps), AROUND))
    return path


@pytest.fixture
def page(chromium: Browser, file: Path) -> Page:
    return chromium.open(file)


def text(page: Page, selector: str) -> str:
    return page.evaluate(f"document.querySelector({selector!r}).textContent")


def colours(page: Page, canvas: str) -> set[str]:
    """Return the colours that many pixels of a canvas have."""
    script = f"""(() => {{
        const canvas = document.getElementById({canvas!r}), counts = {{}};
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        for (let at = 0; at < pixels.length; at += 4) {{
            if (pixels[at + 3] === 255) {{
                const name = [...pixels.slice(at, at + 3)].join(" ");
                counts[name] = (counts[name] || 0) + 1;
            }}
        }}
        return Object.keys(counts).filter((name) => counts[name] > 40);
    }})()"""
    return set(page.evaluate(script))


FORWARD, BACKWARD = "0 114 178", "213 94 0"


def test_it_is_drawn_without_complaint_and_asks_for_nothing(page: Page, file: Path) -> None:
    assert page.evaluate("document.documentElement.dataset.drawn") == "true"
    for canvas in ("bars", "usual", "other"):
        assert {FORWARD, BACKWARD} <= colours(page, canvas), canvas
    assert len(colours(page, "heat")) > 3
    assert text(page, "#usual-title").startswith("The usual step: ")
    assert text(page, "#other-title").startswith("The slowest step: 20 of rank 0 · ")
    assert [page.complaints, set(page.requests) - {"data:,"}] == [[], {file.as_uri()}]


def test_all_of_it_is_reached_by_keys_and_shows_where_one_is(page: Page) -> None:
    reached = []
    for _ in range(40):
        page.press("Tab")
        focus = page.evaluate(
            "[document.activeElement.id || document.activeElement.tagName + (document.activeElement.hash || ''),"
            " getComputedStyle(document.activeElement).outlineStyle,"
            " document.activeElement.getAttribute('role') === 'application'"
            " && !['aria-label', 'aria-labelledby'].some((name) => document.activeElement.hasAttribute(name))]"
        )
        if focus[0] in ("BODY", *reached[:1]):
            break
        reached.append(focus[0])
        assert focus[1:] == ["solid", False], focus
    links = [one for one in reached if one.startswith("A#")]
    others = [one for one in reached if not one.startswith("A#")]
    assert links
    assert others == ["theme", "bars", "heat", "usual", "other", "DIV"]


def focus(page: Page, canvas: str) -> None:
    """Go there by the keyboard."""
    for _ in range(40):
        page.press("Tab")
        if page.evaluate("document.activeElement.id") == canvas:
            return
    raise AssertionError(f"{canvas} is not reached")


@pytest.mark.parametrize(("times", "is_cut"), [(3, False), (8, True), (300, True)])
def test_a_bar_that_is_longer_than_drawn_has_a_gap_and_its_phases_in_proportion(
    times: int, is_cut: bool, chromium: Browser, tmp_path: Path
) -> None:
    def change(step: int, parts: Parts) -> None:
        for part in parts:
            parts[part] *= times if step == 20 else 1

    file = tmp_path / "report.html"
    file.write_bytes(report(Run(make_steps(60, change, noise=0.0)), AROUND))
    page = chromium.open(file)
    assert ("A bar with a gap is longer than drawn" in text(page, "#bars-said")) == is_cut
    column = column_of(page, 20)
    assert column.count(BACKWARD) == pytest.approx(2 * column.count(FORWARD), rel=0.2)
    inside = "".join("." if colour == "" else "#" for colour in column).strip(".")
    assert ("..." in inside) == is_cut, (
        inside
    )  # less is the border of two phases, or the dashed line
    focus(page, "bars")
    page.press("ArrowUp")
    assert text(page, "#bars-said").startswith("Step 20 · ")
    assert (" ms · longer than drawn · forward" in text(page, "#bars-said")) == is_cut
    assert page.complaints == []


def column_of(page: Page, bar: int) -> list[str]:
    """Return the colours of the phases, from above, in the middle of one of 60 bars; nothing where there is none."""
    script = f"""(() => {{
        const canvas = document.getElementById("bars"), x = Math.floor(({bar} + 0.5) / 60 * canvas.width);
        const pixels = canvas.getContext("2d").getImageData(x, 0, 1, canvas.height).data;
        return [...Array(canvas.height).keys()].map((y) => [...pixels.slice(4 * y, 4 * y + 3)].join(" "));
    }})()"""
    known = {FORWARD, BACKWARD, "0 158 115", "230 184 0", "139 145 155"}
    return [colour if colour in known else "" for colour in page.evaluate(script)]


def test_steps_by_keys(page: Page) -> None:
    focus(page, "bars")
    page.press("ArrowRight", "ArrowRight")
    assert text(page, "#bars-said").startswith("Step 2 · ")
    page.press("End")
    assert text(page, "#bars-said").startswith("Step 59 · ")
    page.press("Enter")
    assert "its spans are not in this page" in text(page, "#bars-said")
    page.press("Home")
    assert "warm-up, not counted" in text(page, "#bars-said")
    page.press("ArrowUp")
    assert re.fullmatch(
        r"Step 20 · .* ms · forward .*, backward .* · \+.* ms backward GPT\.h\.2\.mlp",
        text(page, "#bars-said"),
    )
    page.press("Home", "Enter")
    assert text(page, "#other-title").startswith("Step 0 of rank 0 · ")
    page.press("Escape")
    assert text(page, "#bars-said").startswith("Click a step")
    assert page.complaints == []


def test_flames_by_keys(page: Page) -> None:
    focus(page, "other")
    assert text(page, "#flames-said").startswith("rank 0 · ")
    page.press("ArrowDown")
    assert text(page, "#flames-said").startswith("dataloader.next · ")
    page.press("ArrowRight")
    assert text(page, "#flames-said").startswith("forward GPT · ")
    before = colours(page, "usual")
    page.press("Enter")
    assert page.evaluate("document.getElementById('whole').disabled") is False
    assert BACKWARD in before
    assert BACKWARD not in colours(page, "usual")  # both are zoomed to where forward is
    page.press("ArrowDown", "ArrowRight")
    assert text(page, "#flames-said").startswith("forward GPT.h.1 · ")
    page.press("ArrowUp", "ArrowLeft", "ArrowLeft")
    assert text(page, "#flames-said").startswith("dataloader.next · ")
    page.press("Escape")
    assert page.evaluate("document.getElementById('whole').disabled") is True
    assert colours(page, "usual") == before


def place_of(page: Page, canvas: str) -> dict[str, float]:
    page.evaluate(f"document.getElementById({canvas!r}).scrollIntoView({{block: 'center'}})")
    return page.evaluate(f"document.getElementById({canvas!r}).getBoundingClientRect().toJSON()")


def test_by_mouse(page: Page) -> None:
    box = place_of(page, "usual")
    page.mouse("mouseMoved", box["x"] + 20, box["y"] + 5)
    assert text(page, "#flames-said").startswith("rank 0 · ")
    page.click(
        box["x"] + 20, box["y"] + 5
    )  # the usual step is shorter than the scale: it is zoomed to
    assert page.evaluate("document.getElementById('whole').disabled") is False
    page.mouse("mouseWheel", box["x"] + 20, box["y"] + 5, deltaX=0, deltaY=2000)
    for _ in range(20):
        if page.evaluate("document.getElementById('whole').disabled"):
            break
        page.mouse("mouseWheel", box["x"] + 20, box["y"] + 5, deltaX=0, deltaY=2000)
    else:
        raise AssertionError("the wheel does not zoom out")
    box = place_of(page, "bars")
    page.mouse("mouseMoved", box["x"] + box["width"] * 20.5 / 60, box["y"] + 100)
    assert text(page, "#bars-said").startswith("Step 20 · ")
    box = place_of(page, "heat")
    page.mouse("mouseMoved", box["x"] + 54 + (box["width"] - 54) * 40.5 / 60, box["bottom"] - 5)
    assert re.fullmatch(r"Rank 2, step 40: \d+ % longer than .*", text(page, "#heat-said"))


def test_findings_lead_to_what_they_are_about(page: Page) -> None:
    links = page.evaluate(
        "[...document.querySelectorAll('.findings a')].map((one) => [one.hash, one.dataset.step || null])"
    )
    assert [
        hash_ for hash_, _ in links if page.evaluate(f"!document.querySelector({hash_!r})")
    ] == []
    at = next(number for number, (_, step) in enumerate(links) if step == "20")
    page.evaluate(f"document.querySelectorAll('.findings a')[{at}].click()")
    assert text(page, "#bars-said").startswith("Step 20 · ")


def contrast(a: str, b: str) -> float:
    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(share * p for share, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_light_and_dark_can_be_read(page: Page) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        style = "getComputedStyle(document.querySelector({0!r})).{1}"
        background = page.evaluate(style.format("body", "backgroundColor"))
        card = page.evaluate(style.format(".findings a", "backgroundColor"))
        for selector in ("body", "header", "h1", "h2", "output", ".findings i", "th", "footer"):
            colour = page.evaluate(style.format(selector, "color"))
            assert contrast(colour, background) >= 4.5, (scheme, selector)
            assert contrast(colour, card) >= 4.5, (scheme, selector)
        backgrounds.append(background)
        assert {FORWARD, BACKWARD} <= colours(page, "usual")
    assert contrast(*backgrounds) > 10
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == backgrounds[0]


@pytest.mark.parametrize("width", [320, 700, 2500])
def test_it_is_as_wide_as_its_window(page: Page, width: int) -> None:
    page.resize(width, 800)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('bars').width") > 0.4 * min(width, 1200)


def renamed(span: Span, name: str) -> Span:
    """Return a step in which everything is called so."""
    sites = tuple(
        Site(
            name,
            {
                key: name if key.startswith("torch.module") else value
                for key, value in site.attributes.items()
            },
        )
        if site.fqn or site.phase is None
        else Site(name, site.attributes)
        for site in span.shape.sites
    )
    trace = span.trace
    shape = Shape(sites, span.shape.parents)
    return Span(
        Trace(
            trace.trace_id, shape, trace.span_ids, trace.parent_ids, trace.starts, trace.ends,
            trace.processes, trace.measures, trace.remarks,
        ),
        span.at,
    )  # fmt: skip


def test_names_are_texts_whatever_they_are(chromium: Browser, tmp_path: Path) -> None:
    steps = [renamed(step, EVIL) for step in make_steps(30, slow_at(20))]
    path = tmp_path / "evil.html"
    around = Around(EVIL, EVIL, (EVIL,), EVIL)
    path.write_bytes(report(Run(steps), around))
    page = chromium.open(path)
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.evaluate("document.querySelectorAll('img, script:not(#data)').length") == 1
    assert page.evaluate("document.title") == EVIL
    assert EVIL in text(page, "tbody")
    focus(page, "usual")
    page.press("ArrowDown", "ArrowRight")
    assert EVIL in text(page, "#flames-said")
    assert page.complaints == []


def test_nothing_else_runs_or_is_loaded_in_it(page: Page) -> None:
    page.evaluate(
        "(() => { const script = document.createElement('script'); script.textContent = 'hacked = 1';"
        " const image = new Image(); image.src = 'https://example.org/x';"
        " document.body.append(script, image); })()"
    )
    assert page.evaluate("typeof hacked") == "undefined"
    assert (
        page.evaluate("fetch('https://example.org/').then(() => 'loaded', () => 'refused')")
        == "refused"
    )
    said = [one["entry"]["text"] for one in page.complaints]
    assert len(said) >= 3
    assert all("Content Security Policy" in one for one in said)


@pytest.mark.parametrize("width", [717, 739], ids=["A4", "Letter"])
def test_on_paper_no_column_is_cut(width: int, chromium: Browser, tmp_path: Path) -> None:
    """What is wider than a sheet is not there: nobody scrolls paper."""

    def recomputed(step: int, parts: Parts) -> None:
        parts["recompute GPT.h.0.mlp"] = 123.456

    file = tmp_path / "report.html"
    file.write_bytes(report(Run(make_steps(60, recomputed)), AROUND))
    page = chromium.open(file, width)
    page.call("Emulation.setEmulatedMedia", media="print")
    titles = "[...document.querySelectorAll('th')].map((title) => title.textContent)"
    assert page.evaluate(titles)[1:] == [
        *("forward ms", "backward ms", "recompute ms", "sum ms", "%", "each × calls", ""),
    ]
    cells = "[...document.querySelectorAll('th, td, .bar')]"
    right = f"Math.max(...{cells}.map((cell) => cell.getBoundingClientRect().right))"
    assert page.evaluate(right) <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
