"""What MLflow loads to serve an ensemble: clips in, a table of class probabilities out.

MLflow runs this file; nothing imports it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from orchestrator.ensembling.bundle import Bundle


class EnsembleModel(PythonModel):  # type: ignore[misc]  # MLflow ships no types
    """Input: a list of clips, each (frames, joints, 3) or (persons, frames, joints, 3); output: one
    row per clip, one column per class.
    """

    def load_context(self, context: Any) -> None:
        self._bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: Any, model_input: list[Any], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        clips = [np.asarray(clip, dtype=np.float32) for clip in model_input]
        return pd.DataFrame(
            self._bundle.predict(clips), columns=list(self._bundle.description.classes)
        )


set_model(EnsembleModel())
