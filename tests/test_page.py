"""The page in a browser: by keyboard alone, without network, in both themes, on a telephone, and before an auditor.

Debian's chromium is driven by playwright, which installs no browser of its own here; without chromium all of this is skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from measurements import measured

from scalecalc.dossier import Made, collection, dossier
from scalecalc.report import site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)"),
    pytest.mark.slow,
]
EVIL = '<img src=x onerror="window.evil=1">'


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of s6, its derivation, and a comparison, as files."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("pages")
    one = dossier("s6", made=Made("scalecalc report s6", seed=0, measured="2026-01-01"))
    table = measured(one.table)
    rows = [replace(row, points=()) if i not in (3, 7, 30) else row for i, row in enumerate(table)]
    rows[3] = replace(rows[3], row=EVIL, verdict="disagrees", settle=f"misses {EVIL}")
    full = replace(one, table=replace(table, rows=tuple(rows), notes=(EVIL,), model=f"s6 {EVIL}"))
    other = dossier("s6", parameterization="sp")
    # the auditor takes a minute for all 56 rows
    part = [row for row in rows if row.row in ("y", EVIL, "⟨C, h⟩") or row.kind == "weight"]
    mlp = dossier("mlp")
    texts = {
        "report.html": site.report_page(full),
        "part.html": site.report_page(replace(full, table=replace(full.table, rows=tuple(part)))),
        "derivation.html": site.derivation_page(mlp),
        "comparison.html": site.comparison_page(collection({"mup_ssm": full, "sp": other}, one.made), {"sp": "sp.html"}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        assert len(text.encode()) < 3_000_000
    return {name: folder / name for name in texts}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    """``opened(name, …)``: the page, and what it complained of or asked the network for."""
    contexts = []

    def show(name: str, **how: Any) -> tuple[Any, list[str]]:
        context = browser.new_context(**how)
        contexts.append(context)
        page, heard = context.new_page(), []
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("file:") else heard.append(request.url))
        page.goto(pages[name].as_uri())
        return page, heard

    yield show
    for context in contexts:
        context.close()


def shown(page: Any) -> list[str]:
    return page.locator("#rows tbody.row:visible").evaluate_all("rows => rows.map(row => row.id)")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_by_keyboard_alone(opened: Any) -> None:
    context = {"permissions": ["clipboard-read", "clipboard-write"]}
    page, heard = opened("report.html", **context)
    every = shown(page)
    assert len(every) == 56

    page.focus("#filter")
    page.keyboard.type("w_in exploding")
    few = shown(page)
    assert 0 < len(few) < 12
    assert page.locator("#count").text_content() == f"{len(few)} of 56 rows"
    press(page, *["Tab"] * 4, "Enter")  # kind, class, verdict, then: clear
    assert shown(page) == every

    page.focus("#filter")
    press(page, "Tab", "g")  # the kind that begins with g
    assert {page.locator(f"#{row}").get_attribute("data-kind") for row in shown(page)} == {"gradient"}
    press(page, *["Tab"] * 3, "Enter")

    page.focus("#rows thead button >> nth=3")  # Θ
    press(page, "Enter")
    assert page.locator("#rows thead th >> nth=3").get_attribute("aria-sort") == "ascending"
    keys = page.locator("#rows tbody.row td.theta").evaluate_all("cells => cells.map(cell => +cell.dataset.key)")
    assert keys == sorted(keys)
    assert not page.locator("#rows tbody.kind:visible").count()
    press(page, "Enter")
    keys = page.locator("#rows tbody.row td.theta").evaluate_all("cells => cells.map(cell => +cell.dataset.key)")
    assert keys == sorted(keys, reverse=True)
    press(page, "Enter")
    assert shown(page) == every

    page.focus("#row-7 summary")
    more = page.locator("#row-7 tr.more")
    assert not more.is_visible()
    press(page, "Enter")
    assert more.is_visible()
    assert more.locator("ol.steps > li").count() > 2
    assert more.locator("svg").is_visible()
    press(page, "Enter")
    assert not more.is_visible()

    for label, expected in (("latex-parameterization", r"\toprule"), ("torch-groups", "torch.optim.SGD(groups)")):
        page.focus(f"button[data-copy={label}]")
        press(page, "Enter")
        page.wait_for_selector("#said:text('copied')", state="attached")  # a function's text is refused by the page's policy
        assert expected in page.evaluate("navigator.clipboard.readText()")
        page.evaluate("document.getElementById('said').textContent = ''")

    page.focus(".diagram a >> nth=1")
    press(page, "Enter")
    page.wait_for_selector("tbody.row:target details.why[open]", state="attached")
    assert heard == []


def test_what_names_contain_is_text(opened: Any) -> None:
    page, heard = opened("report.html")
    assert page.evaluate("window.evil") is None
    assert page.locator("img").count() == 0
    assert EVIL in page.locator("h1").text_content()
    assert "1 disagrees" in page.locator(".verdict .main").text_content()
    assert heard == []


def test_themes_and_a_telephone(opened: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, _ = opened("part.html", color_scheme="light")
    dark, _ = opened("part.html", color_scheme="dark")
    assert (light.evaluate(ground), dark.evaluate(ground)) == ("rgb(251, 250, 247)", "rgb(19, 23, 28)")
    light.focus("#theme")
    light.keyboard.press("Enter")
    assert light.evaluate(ground) == dark.evaluate(ground)
    assert light.locator("#theme").text_content() == "Light theme"
    for name in ("part.html", "derivation.html", "comparison.html"):
        phone, _ = opened(name, viewport={"width": 390, "height": 844})
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_reads_without_its_script(opened: Any) -> None:
    page, _ = opened("report.html", java_script_enabled=False)
    assert page.locator("#rows tbody.row:visible").count() == 56
    assert not page.locator("#filter").is_visible()
    page.focus("#row-7 summary")
    page.keyboard.press("Enter")
    assert page.locator("#row-7 tr.more").is_visible()
    assert page.locator("math").count() > 100


@pytest.mark.parametrize("name", ["part.html", "derivation.html", "comparison.html"])
def test_accessibility(opened: Any, name: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark") if name == "part.html" else ("light",):
        page, heard = opened(name, color_scheme=scheme)
        if name == "part.html":
            page.locator("#row-2 summary").click()
            page.locator("#row-6 summary").click()
        found = Axe().run(page).response["violations"]
        assert [f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}" for one in found] == []
        assert heard == []
