"""A page as one file: its parts in order, the data of its figures, style and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from orchestrator import __version__
from orchestrator.report.content import Block, Heading
from orchestrator.report.page.html import data_element, escaped, to_html
from trainables.contract.disk import write_atomic


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a page; `figures` are names of its charts, before or after its blocks."""

    key: str
    title: str  # in the list of contents
    html: str

    @property
    def element(self) -> str:
        return f'<section id="{self.key}">{self.html}</section>'


@dataclass(frozen=True, slots=True)
class Page:
    """A page before it is a file."""

    title: str
    lead: str  # below the title, HTML
    state: str  # a word beside the title; "" is none
    parts: Sequence[Part]
    data: dict[str, object]  # of the charts, by name
    reload_s: int = 0  # how often it loads itself again; 0: never

    def render(self) -> str:
        links = "".join(
            f'<li><a href="#{part.key}">{escaped(part.title)}</a></li>' for part in self.parts
        )
        state = (
            f'<span class="state {escaped(self.state)}">{escaped(self.state)}</span>'
            if self.state
            else ""
        )
        data = "".join(data_element(name, value) for name, value in self.data.items())
        reload = f' data-reload="{self.reload_s}"' if self.reload_s else ""
        return (
            f'<!doctype html>\n<html lang="en"{reload}><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<link rel="icon" href="data:,"><title>{escaped(self.title)}</title>'
            f"<style>{asset('page.css')}</style></head><body>"
            f'<header class="top"><h1>{escaped(self.title)}{state}</h1>'
            f'<div class="lead">{self.lead}</div></header>'
            f'<nav aria-label="Contents"><div><ol>{links}</ol>'
            '<button type="button" class="theme" aria-label="Change colours">Dark</button>'
            f"</div></nav><main>{''.join(part.element for part in self.parts)}</main>"
            f"<footer>Made by orchestrate {escaped(__version__)} from the files of the sweep alone."
            " The same figures are in report.md and tables/*.csv beside this page. Vega-Lite"
            " (BSD-3-Clause) draws the figures.</footer>"
            f"{data}<script>{asset('page.js')}</script>"
            f'<script type="module">{asset("vega.js")}</script>'
            f'<script type="module">{asset("charts.js")}</script></body></html>\n'
        )

    def write(self, path: Path) -> Path:
        write_atomic(path, self.render().encode())
        return path


def part(key: str, title: str, *content: str | Sequence[Block]) -> Part | None:
    """A part of HTML and of blocks; None where there are neither."""
    html = "".join(each if isinstance(each, str) else to_html(each) for each in content)
    return Part(key, title, html) if html else None


def chart(name: str, label: str, *, title: str = "") -> str:
    """Where a chart of `charts.js` is drawn; label: what it shows, for those who cannot see it."""
    head = to_html([Heading(title, 3)]) if title else ""
    return f'{head}<figure data-chart="{name}" role="group" aria-label="{escaped(label)}"></figure>'


@cache
def asset(name: str) -> str:
    """A file of the page, safe inside an element."""
    text = (files("orchestrator.report.page") / "assets" / name).read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
