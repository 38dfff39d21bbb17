"""The command `orchestrate`: what is typed and what is printed. Imports heavy things inside commands only."""

from orchestrator.cli.commands import app, main

__all__ = ["app", "main"]
