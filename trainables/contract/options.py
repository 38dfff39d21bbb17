"""Settings that only one part of another package has: a free record that its card checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, JsonValue, ValidationError

from trainables.contract.errors import in_words

OwnOptions = Mapping[str, JsonValue]
"""`model.options` and `sparsity.options`, by name."""


class Record(dict[str, Any]):
    """Own options as they are kept: hashable by content, as all of a configuration is."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


def own_options(part: str, known: type[BaseModel] | None, given: OwnOptions) -> Record:
    """What a part's card takes of the options, in JSON form and without defaults: a default that is
    written down makes no other trial. ValueError where it refuses them.
    """
    if known is None:
        if given:
            raise ValueError(f"options must be left out: {part} has none, got {dict(given)}")
        return Record()
    try:
        options = known.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        raise ValueError(
            "; ".join(
                f"options {'.'.join(map(str, item['loc']))}: {_plain(item['msg'])}, got"
                f" {item['input']!r}"
                for item in error.errors(include_url=False)
            )
        ) from error
    return Record(options.model_dump(mode="json", exclude_defaults=True))


def _plain(message: str) -> str:
    """Pydantic's message as part of a sentence."""
    text = in_words(message).removeprefix("Input ")
    return text[:1].lower() + text[1:]
