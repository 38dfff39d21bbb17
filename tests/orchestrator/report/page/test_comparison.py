"""Two sweeps beside each other."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.report.findings import read_findings
from orchestrator.report.page.comparison import comparison
from tests.orchestrator.fake_run import Trial, make_run


def test_a_sweep_may_be_called_setting(tmp_path):
    found = read_findings(make_run(tmp_path, [Trial("joint", 0.0)]))
    sweep = found.resolved["sweep"]
    named = replace(found, resolved={**found.resolved, "sweep": {**sweep, "name": "setting"}})
    (part,) = [each for each in comparison(named, found).parts if each.key == "settings"]
    assert part.html.count("<th") - part.html.count("<thead") == 3
    assert "<code>name</code>" in part.html
