"""What commands set up before JAX starts."""

from __future__ import annotations

import os

import pytest

from bnnsample.terminal import compile_quickly_on_gpus

OURS = "--xla_gpu_enable_triton_gemm=false"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, OURS),
        ("", OURS),
        ("--xla_dump_to=/x", f"--xla_dump_to=/x {OURS}"),
        ("--xla_gpu_enable_triton_gemm=true", "--xla_gpu_enable_triton_gemm=true"),
    ],
)
def test_flags_of_the_user_stay(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.setenv("XLA_FLAGS", given or "")
    if given is None:
        monkeypatch.delenv("XLA_FLAGS")
    compile_quickly_on_gpus()
    assert os.environ["XLA_FLAGS"] == expected
    compile_quickly_on_gpus()
    assert os.environ["XLA_FLAGS"] == expected
