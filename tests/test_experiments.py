"""Every experiment and benchmark runs, with tiny sizes, by the command that its README names."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xarray import Dataset, DataTree

import bnnsample as bnn

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
LONG = (
    "classes.py", "finite_vs_infinite.py", "geometry.py", "power.py", "regimes.py", "samplers.py",
    "widths_fcn.py", "widths_resnet.py",
)  # fmt: skip
FILES = [
    pytest.param(
        str(path.relative_to(EXPERIMENTS)),
        marks=pytest.mark.slow if path.parent.name == "benchmarks" or path.name in LONG else (),
    )
    for path in sorted(EXPERIMENTS.rglob("*.py"))
    if path.name not in ("cifar10_nngp.py", "limit.py", "uci.py")  # run by tests of their own
    and path.name != "peer_bde.py"  # run by peers.py, in an environment of its own
    and path.parent.name not in ("docs", "tutorials")  # run by other tests
    and "__main__" in path.read_text()  # what experiments share is no experiment
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", 30), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(256, size=(size, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = rng.integers(10, size=size, dtype=np.uint8)
    np.savez(tmp_path / "cifar10_subset.npz", **arrays)
    (tmp_path / "uci").mkdir()
    for name in ("bostonHousing", "yacht"):
        x = rng.standard_normal((40, 3))
        y = np.sin(x[:, :1]) + 0.3 * rng.standard_normal((40, 1))
        np.savez(tmp_path / "uci" / f"{name}.npz", x=x, y=y)
    return tmp_path


ARGUMENTS = {
    "cifar10_nngp.py": ["--train", "30", "--test", "20", "--out", "results"],
    "uci.py": ["--splits", "2", "--sets", "boston", "yacht"],
}


WORKERS = {"geometry.py": "1", "limit.py": "2"}
"""Of experiments that measure their points in other processes here too; the first has a class of
its own in its script."""


def run(name: str, data: Path, scale: str = "--smoke") -> subprocess.CompletedProcess[str]:
    sweeps = ".swept(" in (EXPERIMENTS / name).read_text()
    where = ["--workers", WORKERS.get(name, "0")] if sweeps else []
    return subprocess.run(
        [sys.executable, EXPERIMENTS / name, scale, *where, *ARGUMENTS.get(name, [])],
        capture_output=True,
        text=True,
        cwd=data,
        env={**os.environ, "BNNSAMPLE_DATA": str(data)},
        check=False,
    )


@pytest.mark.parametrize("name", FILES)
def test_it_runs(name: str, data: Path) -> None:
    done = run(name, data)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not re.search(r"^\| diabetes \| \d+ \| bnnsample \| no draw", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_cifar10_goes_on_from_the_kernels_it_stored(data: Path) -> None:
    first = run("cifar10_nngp.py", data)
    stores = sorted((data / "results").glob("*/*.zarr"))
    assert len(stores) == 4
    written = {path: path.stat().st_mtime_ns for path in (data / "results").rglob("c/*/*")}
    assert written
    again = run("cifar10_nngp.py", data)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    accuracy = [line.split("|")[2] for line in first.stdout.splitlines() if "onv" in line]
    assert accuracy == [line.split("|")[2] for line in again.stdout.splitlines() if "onv" in line]


@pytest.mark.slow
def test_uci_goes_on_where_it_stopped_and_names_missing_data(data: Path) -> None:
    first, again = (run("uci.py", data) for _ in range(2))
    rows = [line for line in first.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 4
    assert again.stdout.splitlines() == [r for r in first.stdout.splitlines() if r not in rows]
    (data / "uci" / "yacht.npz").unlink()
    missing = run("uci.py", data)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: UCI folder: got")


def test_cifar10_without_its_data_is_refused_in_one_line(tmp_path: Path) -> None:
    done = run("cifar10_nngp.py", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: CIFAR-10 folder: got")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import an experiment as its command does, beside what it shares with others."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


@pytest.mark.slow
def test_a_row_that_was_stored_is_not_measured_again(data: Path) -> None:
    first = run("limit.py", data)
    record = data / "results" / "limit" / "record.json"
    rows = json.loads(record.read_text())["rows"]
    assert len(rows) == 2
    assert (data / "results" / "limit" / "limit.svg").is_file()
    rows[0]["mean_shift"] = 12345.0
    record.write_text(json.dumps({"rows": rows[:1]}))
    again = run("limit.py", data)
    measured = [line for line in again.stdout.splitlines() if line.startswith("{")]
    assert len(measured) == 1
    assert "12300" in again.stdout
    assert "12300" not in first.stdout


def test_the_scale_of_the_paper_is_refused_without_a_gpu(data: Path) -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("there is a GPU")
    done = run("limit.py", data, "--paper-scale")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --paper-scale: got a CPU")
    assert not (data / "results").exists()


def one_weight() -> bnn.Posterior:
    """Of a network with one hidden weight, so that integrals are sums over a grid."""
    network = bnn.fcn(1, 1, 1, "erf", w_std=3.0, b_std=None, b_std_out=None)
    x = np.linspace(-2, 2, 9)[:, None]
    return bnn.Posterior(network, x, 1.2 * np.sin(1.5 * x), bnn.Gaussian(noise_std=0.5))


@pytest.mark.slow
def test_the_divergence_is_that_of_quadrature(experiment: Any, tmp_path: Path) -> None:
    target = bnn.marginal(one_weight())
    weight = jnp.linspace(-12, 12, 4001)
    log_likelihood = jax.vmap(lambda w: target.log_likelihood(w[None]))(weight)
    prior = jax.nn.softmax(-(weight**2) / 2)
    log_ratio = log_likelihood - jax.nn.logsumexp(log_likelihood, b=prior)
    exact = float(jnp.sum(prior * jnp.exp(log_ratio) * log_ratio))
    found = experiment("geometry").divergence(
        target, tmp_path, nodes=5, chains=4, warmup=100, draws=500
    )
    assert exact > 0.1
    assert abs(found["kl"] - exact) < 4 * found["kl_error"] < 0.6 * exact


def test_the_spectrum_is_that_of_the_dense_hessian(experiment: Any) -> None:
    data = bnn.load("digits", train=12, test=1)
    network = bnn.fcn(1, 3, 10)
    posterior = bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(noise_std=0.5))
    target = bnn.repriorised(posterior)
    position = target.init(jax.random.key(0))
    hessian = jax.jacfwd(jax.grad(lambda q: -target.logdensity(q)))(position)
    exact = np.linalg.eigvalsh(hessian)[::-1]
    found = experiment("geometry").spectrum(target, position, eigenvalues=5, probes=400)
    np.testing.assert_allclose(found["largest"], exact[:5], rtol=1e-2)
    assert found["smallest"] == pytest.approx(exact[-1], rel=1e-2, abs=1e-2)
    assert found["from_identity"] == pytest.approx(np.mean((exact - 1) ** 2) ** 0.5, rel=0.2)


def test_the_divergence_without_the_map_is_that_of_two_gaussians(experiment: Any) -> None:
    posterior = one_weight()
    kernel = np.asarray(bnn.nngp(posterior.network, posterior.x)) + 1e-6 * np.eye(9)
    gain = kernel @ np.linalg.inv(kernel + 0.5**2 * np.eye(9))
    mean, covariance = gain @ np.asarray(posterior.y), kernel - gain @ kernel
    inverse = np.linalg.inv(kernel)
    exact = np.trace(inverse @ covariance) - 9 + (mean.T @ inverse @ mean).item()
    exact += np.linalg.slogdet(kernel)[1] - np.linalg.slogdet(covariance)[1]
    found = experiment("geometry").divergence_of_limit(posterior, noise_std=0.5)
    assert found == pytest.approx(exact / 2, rel=1e-3)


def test_the_parts_of_a_distance_are_those_of_drawn_outputs(experiment: Any) -> None:
    rng = np.random.default_rng(1)
    shape = (3, 40, 5, 2)  # chain, draw, test_point, output
    dims = ("chain", "draw", "test_point", "output")
    f_mean, f_std = rng.normal(0.4, 0.7, shape), rng.uniform(0.2, 0.9, shape)
    nngp_mean, nngp_std = rng.normal(size=shape[2:]), rng.uniform(0.5, 2, shape[2:])
    groups = {
        "predictions": Dataset({"f_mean": (dims, f_mean), "f_std": (dims, f_std)}),
        "constant_data": Dataset(
            {"nngp_mean": (dims[2:], nngp_mean), "nngp_std": (dims[2:], nngp_std)}
        ),
    }
    found = experiment("limit").parts(DataTree.from_dict(groups))
    # 2000 draws of each of 120 components: errors of 0.2 %
    drawn = f_mean + f_std * rng.standard_normal((2000, *shape))
    shift = (drawn.mean(axis=(0, 1, 2)) - nngp_mean) / nngp_std
    ratio = drawn.std(axis=(0, 1, 2)) / nngp_std
    assert found["mean_shift"] == pytest.approx(np.mean(shift**2) ** 0.5, rel=0.01)
    assert found["std_ratio"] == pytest.approx(np.mean(ratio), rel=0.01)


def test_the_fitted_rate_is_the_true_one_and_missing_where_noise_hides_it(experiment: Any) -> None:
    fitted, widths = experiment("limit").fitted, 2.0 ** np.arange(4, 11)
    rng = np.random.default_rng(0)
    squared = 3 * widths**-1.0 * (1 + 0.02 * rng.standard_normal(len(widths)))

    def rows(error: float) -> list[dict[str, float]]:
        names = ("depth", "width", "squared", "squared_error")
        return [
            dict(zip(names, (1, w, s, error * s), strict=True))
            for w, s in zip(widths, squared, strict=True)
        ]

    found = fitted(rows(0.02), 0.0)
    assert abs(found["slope"] + 0.5) < 4 * found["error"] < 0.1
    assert len(fitted(rows(0.02), 100.0)["widths"]) == 4
    assert np.isnan(fitted(rows(0.8), 0.0)["slope"])
