"""Frozen dataclasses as JAX pytrees whose constructor runs only for the user.

``jax.tree_util.register_dataclass`` calls the constructor each time JAX rebuilds an object, with
tracers and placeholders in the fields. Ours validate and convert real data, so rebuilding must
bypass them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax


def as_pytree[T](*leaves: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: the named fields are leaves (arrays or pytrees), the others static."""

    def register(cls: type[T]) -> type[T]:
        names = tuple(field.name for field in dataclasses.fields(cls))  # pyright: ignore[reportArgumentType]
        static = tuple(name for name in names if name not in leaves)

        def flatten(instance: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            return (
                tuple(getattr(instance, name) for name in leaves),
                tuple(getattr(instance, name) for name in static),
            )

        def unflatten(static_values: tuple[Any, ...], leaf_values: Iterable[Any]) -> T:
            instance = object.__new__(cls)
            for name, value in zip(leaves + static, (*leaf_values, *static_values), strict=True):
                object.__setattr__(instance, name, value)
            return instance

        def flatten_with_keys(instance: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            values, static_values = flatten(instance)
            keys = map(jax.tree_util.GetAttrKey, leaves)
            return tuple(zip(keys, values, strict=True)), static_values

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return register
