"""A NumPyro model run without its readout, and what may be around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from numpyro import handlers
from numpyro.primitives import _PYRO_STACK, Messenger

from bnnsample.checks import bad_input

OBSERVED = {"readout": False, "likelihood": True}
"""Whether a site must have observations."""


def check_around(sites: Mapping[str, str]) -> None:
    """Raise where a handler outside is to change the readout or the likelihood.

    They are hidden from it, so that it would do nothing; NumPyro has no public list of handlers.
    """
    hidden = {sites[role] for role in OBSERVED}
    for handler in _PYRO_STACK:
        changes = isinstance(handler, handlers.condition | handlers.do)
        named = hidden & set(handler.data or ()) if changes else set()
        if named or isinstance(handler, handlers.scale):
            raise bad_input(
                "Repriorise",
                got=f"handlers.{type(handler).__name__} around it"
                + (f", with {sorted(named)}" if named else ""),
                expected="none that changes the readout or the likelihood",
                probably="a handler that belongs around the model which is given to Repriorise",
            )


class Intercept(Messenger):
    """Runs a model with its readout at 0, hiding readout, likelihood and deterministic sites."""

    def __init__(self, sites: dict[str, str]) -> None:
        super().__init__(None)
        self.names = {name: role for role, name in sites.items()}
        self.messages: dict[str, dict[str, Any]] = {}
        self.values: dict[str, Any] = {}

    def process_message(self, msg: Any) -> None:
        role = self.names.get(msg.get("name"))
        if role is not None:
            self.messages[role] = msg
        if role == "readout" and msg["type"] == "sample":
            msg["value"] = jnp.zeros(msg["fn"].shape())
        if msg["type"] == "sample" and role in OBSERVED and msg["is_observed"] != OBSERVED[role]:
            raise bad_input(
                f"site {msg['name']}",
                got=f"a {role} {'with' if msg['is_observed'] else 'without'} observations",
                expected="a readout that is sampled, and targets as obs= of the likelihood",
                probably="targets left out, or known by handlers.condition outside: give them to "
                "the model; for predictions call it by itself",
            )
        if role in ("readout", "likelihood") or msg["type"] == "deterministic":
            msg["stop"] = True

    def postprocess_message(self, msg: Any) -> None:
        hidden = self.names.get(msg.get("name")) is not None
        known = msg["type"] == "param" or (msg["type"] == "sample" and not msg["is_observed"])
        if known and not hidden:
            self.values[msg["name"]] = msg["value"]

    def found(self) -> dict[str, dict[str, Any]]:
        """The message of each of the three sites."""
        types = {"readout": "sample", "features": "deterministic", "likelihood": "sample"}
        for name, role in self.names.items():
            kind = self.messages.get(role, {}).get("type")
            if kind != types[role]:
                raise bad_input(
                    f"Repriorise {role}",
                    got=f"{name!r}, which is {'no site' if kind is None else f'a {kind} site'}",
                    expected=f"the name of a {types[role]} site of the model",
                    probably="a readout that is reparametrised already, which Repriorise does"
                    if role == "readout" and kind == "deterministic"
                    else "a typing error, or features without numpyro.deterministic",
                )
        return self.messages
