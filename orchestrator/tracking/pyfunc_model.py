"""What MLflow loads to serve an ensemble: clips in, a table of class probabilities out.

MLflow runs this file; nothing imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from orchestrator.ensembling.bundle import Bundle


class EnsembleModel(PythonModel):  # type: ignore[misc]  # MLflow ships no types
    """Input: clips (N, M, T, V, 3), as the signature says, or of the unwrapped model a list of
    clips of any lengths, as `Bundle.predict` takes them. Output: one row per clip, one column per
    class.
    """

    def load_context(self, context: Any) -> None:
        self._bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: Any, model_input: Any, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        return pd.DataFrame(
            self._bundle.predict(model_input), columns=list(self._bundle.description.classes)
        )


set_model(EnsembleModel())
