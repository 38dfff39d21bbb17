"""Pages of finished sweeps in a real browser: nothing is asked of the network, no error of the
console, and controls do what they say.
"""

from __future__ import annotations

import shutil

import pytest

from orchestrator.report.findings import read_findings
from orchestrator.report.page.comparison import write_comparison
from orchestrator.report.page.sweep import write_page
from tests.browser import DESKTOP, PHONE
from tests.orchestrator.report.page.swept import large_sweep, small_sweep

CHARTS = {
    "cost",
    "levels",
    "parallel",
    "importances",
    "progress",
    "learning",
    "reliability",
    "confusion",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.ensembling.whole_choice.MOST_ENSEMBLE_DRAWS", 5)
        run = small_sweep(tmp_path_factory.mktemp("small"))
    write_page(read_findings(run))
    return run


def drawn(page) -> None:
    page.wait_for_selector("html[data-drawn=all]", state="attached")


def charts(page) -> set[str]:
    return set(
        page.eval_on_selector_all(
            "figure[data-drawn=yes]", "found => found.map(each => each.dataset.chart)"
        )
    )


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_draws_its_figures_and_fits_its_window(open_page, small, size, scheme):
    page = open_page(small / "report" / "index.html", size=size, color_scheme=scheme)
    drawn(page)
    assert charts(page) == CHARTS
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 23, 27)") == (scheme == "dark")
    page.click("button.theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_controls_of_figures(open_page, small):
    page = open_page(small / "report" / "index.html")
    drawn(page)
    cost = page.locator("figure[data-chart=cost]")
    assert "non-zero parameters" in cost.locator(".plot").text_content()
    cost.locator("select[data-control=x]").select_option("latency")
    page.wait_for_function(
        "document.querySelector('figure[data-chart=cost] .plot')"
        ".textContent.includes('latency of one clip')"
    )
    cost.locator("select[data-control=set]").select_option("ensembles")
    page.wait_for_function(
        "!document.querySelector('figure[data-chart=cost] figcaption')"
        ".textContent.includes('circle')"
    )
    cost.locator(".plot path[aria-label*='final']").last.hover(force=True)
    tip = page.locator(".tip")
    tip.wait_for()
    assert "final" in tip.text_content()
    assert "±" in tip.text_content()
    confusion = page.locator("figure[data-chart=confusion]")
    first = page.locator("#per-class").text_content()
    confusion.locator("select[data-control=name]").select_option("joint-0.8")
    page.wait_for_function(
        "before => document.querySelector('#per-class').textContent !== before", arg=first
    )
    confusion.locator("select[data-control=against]").select_option("final")
    page.locator("#per-class th", has_text="difference").wait_for()


def test_tables_sort_filter_and_widen(open_page, small):
    page = open_page(small / "report" / "index.html")
    table = page.locator("#trials .table")
    names = "rows => rows.map(row => row.cells[0].textContent)"
    assert len(page.eval_on_selector_all("#trials tbody tr", names)) == 20
    table.locator("input").fill("bone-0.8")
    assert set(page.eval_on_selector_all("#trials tbody tr", names)) == {"bone-0.8"}
    table.locator("input").fill("")
    head = table.locator("th", has_text="train.lr")
    values = "rows => rows.map(row => Number(row.cells[1].textContent))"
    head.click()
    found = page.eval_on_selector_all("#trials tbody tr", values)
    assert found == sorted(found, reverse=True)
    head.click()
    assert page.eval_on_selector_all("#trials tbody tr", values) == sorted(found)
    assert not table.locator("th", has_text="batch 64 ms").is_visible()
    table.locator("button", has_text="All columns").click()
    assert table.locator("th", has_text="batch 64 ms").is_visible()


def test_a_page_prints_in_light_colours_without_controls(open_page, small):
    page = open_page(small / "report" / "index.html", color_scheme="dark")
    drawn(page)
    page.emulate_media(media="print")
    page.wait_for_selector("html[data-theme=light]", state="attached")
    assert not page.locator("nav").is_visible()
    assert not page.locator("figure[data-chart=cost] select").first.is_visible()
    assert page.locator("figure[data-chart=cost] svg").is_visible()


def test_two_sweeps_beside_each_other(open_page, small, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(small, other)
    text = (other / "resolved.json").read_text().replace('"made-up"', '"other <b>one</b>"')
    (other / "resolved.json").write_text(text)
    path = write_comparison(read_findings(other), read_findings(small))
    page = open_page(path)
    drawn(page)
    assert charts(page) == {"cost"}
    said = page.locator("main").text_content()
    assert "on the same 30 test clips: +0.00 ± 0.00 points" in said
    assert "other <b>one</b>" in said


def test_a_page_that_follows_a_sweep_loads_itself_again(open_page, small, tmp_path):
    run = tmp_path / "running"
    shutil.copytree(small, run)
    (run / "evaluation.json").unlink()
    path = write_page(read_findings(run), reload_s=1)
    page = open_page(path)
    assert "there are no test figures" in page.locator("main").text_content()
    text = path.read_text().replace("there are no test figures", "it goes on")
    path.write_text(text)
    page.locator("main", has_text="it goes on").wait_for(timeout=60_000)


@pytest.mark.full
def test_a_page_of_two_thousand_trials_is_small_and_opens_at_once(open_page, tmp_path):
    path = write_page(read_findings(large_sweep(tmp_path / "large", 2000)))
    assert path.stat().st_size < 5e6
    page = open_page(path)
    page.wait_for_selector("figure[data-chart=cost] svg")
    drawn(page)
    assert charts(page) >= {"cost", "parallel", "importances", "learning", "confusion"}
    parallel = page.locator("figure[data-chart=parallel]")
    parallel.locator("select[data-control=cell]").select_option("")
    parallel.locator("figcaption", has_text="2000 trials").wait_for()
    parallel.locator("select[data-control=best]").select_option("0.1")
    parallel.locator("figcaption", has_text="200 trials").wait_for()
    table = page.locator("#trials .table")
    table.locator("button", has_text="All 2,000 rows").click()
    assert page.locator("#trials tbody tr").count() == 2000
