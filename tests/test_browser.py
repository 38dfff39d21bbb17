"""What the browser of the tests holds against a page."""

import pytest

from tests.browser import DESKTOP, ELSEWHERE, PHONE, watching
from tests.waiting import until


@pytest.mark.parametrize(
    ("url", "elsewhere"),
    [
        ("file:///tmp/a.html", False),
        ("data:text/plain,a", False),
        ("http://127.0.0.1:5000/", False),
        ("http://localhost:5000/a", False),
        ("ws://localhost/", False),
        ("https://example.org/a.js", True),
        ("http://localhost.example.org/", True),
        ("http://127.0.0.1.example.org/", True),
        ("wss://example.org/", True),
    ],
)
def test_other_machines_are_told_by_their_address(url, elsewhere):
    assert bool(ELSEWHERE.match(url)) == elsewhere


def test_width_and_colours_are_those_that_were_asked_for(open_page, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>t</title><p>text</p>")
    asked = "[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]"
    assert open_page(page).evaluate(asked) == [DESKTOP[0], False]
    assert open_page(page, size=PHONE, color_scheme="dark").evaluate(asked) == [PHONE[0], True]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("console.error('a fault')", "console: a fault"),
        ("throw new Error('a throw')", "uncaught: a throw"),
        ("fetch('https://example.org/a').catch(() => 0)", "another machine: https://example.org/a"),
        ("new WebSocket('wss://example.org/b')", "another machine: wss://example.org/b"),
    ],
)
def test_what_is_wrong_with_a_page_is_noted(chromium, tmp_path, script, problem):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>t</title><script>{script}</script>")
    problems = []
    with watching(chromium, problems) as opened:
        shown = opened(page)
        until(lambda: shown.wait_for_timeout(20) or any(problem in each for each in problems))
