"""How the commands' help looks."""

from __future__ import annotations

import argparse


class WithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Each option with its default, where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.nargs == 0 or action.default in (None, [])
        return action.help if none else super()._get_help_string(action)
