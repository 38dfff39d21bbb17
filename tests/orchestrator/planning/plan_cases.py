"""What the tests of plan share."""

from __future__ import annotations

LOCAL = "resources={gpus: 0, cpus: 1, max_concurrent: 1}"
