"""The pictures of docs/mlflow.md, of a finished sweep: `python -m docs.screenshots STORE SWEEP`,
from the root of the repository, with playwright and a Chromium (`pip install -e '.[dev]'`).
"""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import sync_playwright

from orchestrator.tracking.pages import PARENT, model_page, run_page, view_page
from tests.browser import NAMES
from tests.mlflow_server import CLOSED_ASSISTANT, served

OUT = Path(__file__).with_name("figures")
SIZE = {"width": 1300, "height": 800}
WITHOUT_PATHS = """
for (const each of document.querySelectorAll("span, div"))
  if (!each.children.length && each.textContent.includes("file:///")) each.textContent = "";
"""
"""Where the files of an artifact lie is nobody's business."""
SETTLED_MS = 5000  # charts are drawn some time after their page is there


def main(uri: str, sweep: str) -> None:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None, f"{uri} has no experiment {sweep}"
    runs = client.search_runs([experiment.experiment_id])
    parent = next(run for run in runs if run.data.tags["kind"] == "sweep")
    below = [run for run in runs if run.data.tags.get(PARENT) == parent.info.run_id]
    network = next(run for run in below if run.data.tags["kind"] == "trial")
    (model,) = {version.name for version in client.search_model_versions(f"name LIKE '{sweep}.%'")}
    place, top = experiment.experiment_id, parent.info.run_id
    pages = {
        "charts": view_page(place, top),
        "table": view_page(place, top, "TABLE"),
        "sweep": run_page(place, top),
        "confusion": run_page(place, top, "report/figures/confusion.png"),
        "curves": run_page(place, network.info.run_id, "figures/curves.png"),
        "model": model_page(model),
    }
    browser_path = next(filter(None, map(shutil.which, NAMES)))
    with served(uri) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path)
        for name, where in pages.items():
            context = browser.new_context(viewport=SIZE)
            context.add_init_script(CLOSED_ASSISTANT)
            page = context.new_page()
            page.goto(address + where)
            if "/artifacts/" in where:
                page.locator("img[src^='blob:']").first.wait_for(timeout=60_000)
            page.wait_for_timeout(SETTLED_MS)
            page.evaluate(WITHOUT_PATHS)
            _save(page.screenshot(), OUT / f"mlflow_{name}.png")
            context.close()
        browser.close()


def _save(picture: bytes, path: Path) -> None:
    """With few colours: a page has no more, and the file is a third as large."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
