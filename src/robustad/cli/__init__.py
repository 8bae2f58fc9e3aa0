"""The command line: one file per command, loaded only when the command is called."""

from robustad.cli.app import main

__all__ = ["main"]
