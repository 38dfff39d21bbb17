"""A real browser for pages: an installed Chromium, driven by playwright. Whatever a page asks
of another machine is refused, and errors of its console fail the test.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, WebSocketRoute

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""What a Chromium is called in PATH."""

DESKTOP, PHONE = (1280, 900), (390, 844)
"""Width and height of a window in CSS pixels."""

ELSEWHERE = re.compile(
    r"^(?!(file|data|blob|about|chrome):|(https?|wss?)://(127\.0\.0\.1|localhost|\[::1\])[:/])"
)
"""Addresses that are neither files nor of this machine."""


class OpenPage(Protocol):
    """Open a page in a window of its own."""

    def __call__(
        self,
        address: str | Path,
        *,
        size: tuple[int, int] = DESKTOP,
        color_scheme: Literal["light", "dark"] = "light",
        ignored: str = "",
        fails: bool = True,
    ) -> Page:
        """address: of a server on this machine, or a file. ignored: a pattern of console errors
        that are none. fails: whether a request to another machine is an error, and not only
        refused: for pages that are not ours.
        """
        ...


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A running browser; skips where playwright or a Chromium is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"needs a Chromium: none of {', '.join(NAMES)} is in PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens pages; at the end of the test their console errors and their requests to other machines
    must be none.
    """
    problems: list[str] = []
    with watching(chromium, problems) as opened:
        yield opened
    assert problems == []


@contextmanager
def watching(browser: Browser, problems: list[str]) -> Iterator[OpenPage]:
    """Opens pages, and notes in `problems` what is wrong with them."""
    contexts = []

    def opened(
        address: str | Path,
        *,
        size: tuple[int, int] = DESKTOP,
        color_scheme: Literal["light", "dark"] = "light",
        ignored: str = "",
        fails: bool = True,
    ) -> Page:
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=color_scheme
        )
        contexts.append(context)

        def note(text: str) -> None:
            if not ignored or not re.search(ignored, text):
                problems.append(text)

        def note_request(url: str) -> None:
            if fails and ELSEWHERE.match(url):
                problems.append(f"request to another machine: {url}")

        def refuse_socket(socket: WebSocketRoute) -> None:  # the page's listeners are not told
            note_request(socket.url)
            socket.close()

        context.route(ELSEWHERE, lambda route: route.abort())
        context.route_web_socket(ELSEWHERE, refuse_socket)
        page = context.new_page()
        page.on("pageerror", lambda error: note(f"uncaught: {error}"))
        page.on(
            "console",
            lambda message: note(f"console: {message.text}") if message.type == "error" else None,
        )
        page.on("request", lambda request: note_request(request.url))
        page.goto(address.absolute().as_uri() if isinstance(address, Path) else address)
        return page

    yield opened
    for context in contexts:
        context.close()
