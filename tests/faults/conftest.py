from __future__ import annotations

import pytest

from tests.faults.seeds import chunks


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        module = metafunc.module
        metafunc.parametrize("seeds", chunks(module.QUICK, module.ALL, metafunc.config))
