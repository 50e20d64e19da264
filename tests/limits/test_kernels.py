"""Kernel matrices: the same numbers however they are cut, traced, batched or differentiated."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.limits import plan, tiles
from tests.conftest import X64
from tests.quick import quickly
from tests.zoo import LIMITS

KINDS = ("nngp", "ntk")
FLAT = bnn.fcn(1, 4, 2, "erf", w_std=1.3, b_std=0.2)
SPATIAL = bnn.Network(
    [
        bnn.Conv(3, 2, w_std=1.4, b_std=0.2),
        bnn.Activation("relu"),
        bnn.AvgPool(2, 1),
        bnn.Conv(3, 2, w_std=1.3),
        bnn.Activation("erf"),
        bnn.GlobalAvgPool(),
        bnn.Dense(2, 1.0, 0.1),
    ]
)
EXAMPLE = {FLAT: (3,), SPATIAL: (3, 2)}


def examples(rng, network, n):
    return rng.standard_normal((n, *EXAMPLE[network]))


def brute_force(network, x1, x2=None):
    """Both kernels of every pair, one call of the network's own for each, in one program."""
    x2 = x1 if x2 is None else x2

    @quickly
    def kernels(x1, x2):
        def pair(a, b):
            kernel = network.kernel(a, b, wants_ntk=True)
            return kernel.nngp, kernel.ntk

        return jax.lax.map(lambda a: jax.lax.map(lambda b: pair(a, b), x2), x1)

    return kernels(jnp.asarray(x1), jnp.asarray(x2))


@pytest.fixture
def tile_of(monkeypatch):
    def set_sizes(pairs, pairs_per_bundle, positions=1):
        monkeypatch.setitem(plan.ENTRIES_PER_TILE, jax.default_backend(), pairs * positions)
        monkeypatch.setattr(plan, "ENTRIES_PER_BUNDLE", pairs_per_bundle * positions)

    return set_sizes


@pytest.mark.parametrize(
    ("n1", "n2", "pairs", "bundled"),
    [
        (1, None, 4, 8),
        (7, None, 4, 8),
        (13, None, 25, 25),
        (6, None, 4, 10**6),
        (1, 5, 4, 8),
        (5, 1, 4, 8),
        (11, 13, 12, 36),
        (3, 17, 10**6, 10**6),
    ],
)
def test_tiles_of_any_size_give_the_pairs(n1, n2, pairs, bundled, rng, tile_of, tolerance):
    x1 = examples(rng, FLAT, n1)
    x2 = None if n2 is None else examples(rng, FLAT, n2)
    tile_of(pairs, bundled)
    found = bnn.nngp_and_ntk(FLAT, x1, x2)
    for kernel, expected in zip(found, brute_force(FLAT, x1, x2), strict=True):
        np.testing.assert_allclose(kernel, expected, rtol=tolerance)
        if n2 is None:
            np.testing.assert_array_equal(kernel, kernel.T)


@pytest.mark.parametrize("bundled", [3, 100])
def test_tiles_of_spatial_networks_give_the_pairs(bundled, rng, tile_of, tolerance):
    x1, x2 = examples(rng, SPATIAL, 5), examples(rng, SPATIAL, 3)
    tile_of(3, bundled, positions=9)
    for kernel, expected in zip(
        bnn.nngp_and_ntk(SPATIAL, x1, x2), brute_force(SPATIAL, x1, x2), strict=True
    ):
        np.testing.assert_allclose(kernel, expected, rtol=tolerance)


def test_little_memory_means_small_tiles_and_the_same_numbers(rng, tolerance):
    x = examples(rng, FLAT, 9)
    wide, narrow = bnn.nngp(FLAT, x), bnn.nngp(FLAT, x, memory=3000 if X64 else 1500)
    sizes = [
        plan.plan_tiles(
            FLAT, (3,), (9, 9), x.itemsize, symmetric=True, memory=memory,
            held_bytes=81 * x.itemsize, kinds=1,
        ).rows
        for memory in (3000, 10**9)
    ]  # fmt: skip
    assert sizes[0] < sizes[1] == 9
    np.testing.assert_allclose(narrow, wide, rtol=tolerance)
    np.testing.assert_array_equal(narrow, narrow.T)


@pytest.mark.parametrize("network", [FLAT, SPATIAL])
def test_the_symmetric_case_is_that_of_two_equal_sets(network, rng, tolerance):
    x = examples(rng, network, 5)
    for own, cross in zip(
        bnn.nngp_and_ntk(network, x), bnn.nngp_and_ntk(network, x, x), strict=True
    ):
        np.testing.assert_array_equal(own, own.T)
        np.testing.assert_allclose(own, cross, rtol=tolerance)


@pytest.mark.parametrize("network", [FLAT, SPATIAL])
def test_each_kernel_alone_and_the_diagonals_are_those_of_both(network, rng, tolerance):
    x = examples(rng, network, 4)
    both = bnn.nngp_and_ntk(network, x)
    for kind in KINDS:
        kernel = getattr(bnn, kind)
        np.testing.assert_allclose(kernel(network, x), getattr(both, kind), rtol=tolerance)
        diagonal = kernel(network, x, diagonal=True)
        np.testing.assert_allclose(diagonal, np.diagonal(getattr(both, kind)), rtol=tolerance)
    diagonals = bnn.nngp_and_ntk(network, x, diagonal=True)
    assert diagonals.nngp.shape == diagonals.ntk.shape == (4,)


@pytest.mark.parametrize("n", [1, 12, 15])
def test_diagonals_of_any_number_of_examples(n, rng, tile_of, tolerance):
    network = bnn.fcn(1, 3, 1, "relu")
    x = rng.standard_normal((n, 2))
    few = bnn.nngp(network, x[-3:])
    tile_of(4, 8)
    found = bnn.nngp(network, x, diagonal=True)
    assert found.shape == (n,)
    np.testing.assert_allclose(found[-3:], np.diagonal(few), rtol=tolerance)


@pytest.mark.parametrize("name", ["dense", "conv 1-d, CIRCULAR, pooled", "attention", "residual"])
def test_kernels_are_positive_semi_definite_to_rounding(name, rng):
    limit = LIMITS[name]
    x = rng.standard_normal((6, *limit.input_shape))
    x = jnp.asarray(np.concatenate([x, x[:2], -x[:2]]))  # of less than full rank
    for kernel in quickly(lambda x: bnn.nngp_and_ntk(limit.network(3), x))(x):
        np.testing.assert_array_equal(kernel, kernel.T)
        values = np.linalg.eigvalsh(np.asarray(kernel, float))
        assert values[0] > -50 * jnp.finfo(kernel.dtype).eps * values[-1]


@pytest.mark.parametrize("network", [FLAT, SPATIAL])
def test_traced_calls_give_what_concrete_ones_do(network, rng, tile_of, tolerance):
    x1, x2 = (jnp.asarray(examples(rng, network, n)) for n in (5, 4))
    expected = [*bnn.nngp_and_ntk(network, x1), *bnn.nngp_and_ntk(network, x1, x2)]
    tile_of(4, 8, positions=1 if network is FLAT else 9)

    @quickly
    def traced(network, x1, x2):
        return [*bnn.nngp_and_ntk(network, x1), *bnn.nngp_and_ntk(network, x1, x2)]

    for found, kernel in zip(traced(network, x1, x2), expected, strict=True):
        np.testing.assert_allclose(found, kernel, rtol=tolerance)
    for found in traced(network, x1, x2)[:2]:
        np.testing.assert_array_equal(found, found.T)


def test_kernels_of_batches_of_inputs_and_of_scales(rng, tolerance):
    x = jnp.asarray(examples(rng, FLAT, 6).reshape(2, 3, 3))
    batched = jax.vmap(lambda x: bnn.ntk(FLAT, x))(x)
    for found, own in zip(batched, x, strict=True):
        np.testing.assert_allclose(found, bnn.ntk(FLAT, own), rtol=tolerance)
    scales = jnp.array([0.7, 1.9])
    batched = jax.vmap(lambda w_std: bnn.nngp(bnn.fcn(1, 2, 1, w_std=w_std), x[0]))(scales)
    for found, scale in zip(batched, scales, strict=True):
        expected = bnn.nngp(bnn.fcn(1, 2, 1, w_std=float(scale)), x[0])
        np.testing.assert_allclose(found, expected, rtol=tolerance)


def directional_slope(function, at, direction, step):
    """Central differences along ``direction`` in a pytree."""

    def moved(by):
        return function(jax.tree.map(lambda a, d: a + by * d, at, direction))

    return (moved(step) - moved(-step)) / (2 * step)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [FLAT, SPATIAL])
def test_gradients_in_inputs_and_scales_are_finite_differences(network, kind, rng, tile_of):
    kernel = getattr(bnn, kind)
    x = jnp.asarray(examples(rng, network, 3))
    weights = jnp.asarray(rng.standard_normal((3, 3)))
    leaves, structure = jax.tree.flatten(network)
    scales = jnp.asarray(leaves)
    tile_of(1, 4, positions=1 if network is FLAT else 9)

    def value(at):
        scales, x = at
        return jnp.sum(weights * kernel(structure.unflatten(list(scales)), x))

    gradient, compiled = quickly(jax.grad(value))((scales, x)), quickly(value)
    step = 1e-5 if X64 else 1e-2
    for _ in range(4):
        direction = tuple(jnp.asarray(rng.standard_normal(a.shape)) for a in (scales, x))
        product = sum(jnp.sum(g * d) for g, d in zip(gradient, direction, strict=True))
        slope = directional_slope(compiled, (scales, x), direction, step)
        np.testing.assert_allclose(product, slope, rtol=1e-6 if X64 else 3e-2, atol=1e-7)


@pytest.mark.parametrize(
    "activation",
    [
        *map(bnn.Activation, ("relu", "erf", "gelu")),
        # expansions of their own length take minutes to differentiate here
        pytest.param(bnn.Activation("tanh", degree=5), marks=pytest.mark.slow),
    ],
    ids=("relu", "erf", "gelu", "tanh"),
)
def test_gradients_are_finite_at_coinciding_opposite_and_zero_inputs(activation, rng):
    x = rng.standard_normal((2, 3))
    x = jnp.asarray(np.concatenate([x, x, -x, np.zeros((2, 3))]))

    @quickly
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(x, w_std):
        network = bnn.Network([bnn.Dense(4, w_std), activation] * 2 + [bnn.Dense(1)])
        return sum(jnp.sum(kernel) for kernel in bnn.nngp_and_ntk(network, x))

    for values in gradient(x, jnp.asarray(1.3)):
        assert np.isfinite(values).all()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_slope_of_a_variance_is_exact_where_inputs_coincide(activation, rng):
    network = bnn.fcn(2, 4, 1, activation, b_std=0.3)
    x, direction = (jnp.asarray(rng.standard_normal((1, 3))) for _ in range(2))

    def value(x):
        return sum(kernel[0, 0] for kernel in bnn.nngp_and_ntk(network, x))

    product = jnp.sum(quickly(jax.grad(value))(x) * direction)
    slope = directional_slope(quickly(value), x, direction, 1e-5 if X64 else 1e-2)
    np.testing.assert_allclose(product, slope, rtol=1e-6 if X64 else 2e-2)


def test_floating_types_are_kept_and_the_wider_of_two_wins(rng):
    x = rng.standard_normal((3, 2)).astype(np.float32)
    integers = np.array([[1, 2], [0, -1]])
    wide = np.float64 if X64 else np.float32
    network = bnn.fcn(1, 3, 1)
    assert bnn.nngp(network, x).dtype == np.float32
    assert bnn.ntk(network, x, diagonal=True).dtype == np.float32
    for mixed in (
        bnn.nngp(network, x, x.astype(np.float64)),
        bnn.nngp(network, x.astype(np.float64), x),
        bnn.nngp(network, integers),
        bnn.nngp(network, x, integers),
        bnn.nngp(network, integers > 0),
    ):
        assert mixed.dtype == wide
    expected = bnn.nngp(network, integers.astype(float))
    np.testing.assert_array_equal(bnn.nngp(network, integers), expected)
    np.testing.assert_allclose(bnn.nngp(network, x, x.astype(float)), bnn.nngp(network, x), 1e-5)


@pytest.mark.skipif(not X64, reason="there is one floating type")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scales_given_as_arrays_of_another_type_serve_all_inputs(dtype, rng):
    x = rng.standard_normal((3, 2))
    wide = bnn.nngp(bnn.fcn(1, 3, 1, w_std=1.3), x)
    for own in (np.float32, np.float64):
        for scale in (jnp.asarray(1.3, own), np.asarray(1.3, own)):
            network = bnn.fcn(1, 3, 1, w_std=scale)
            for found in (
                bnn.nngp(network, x.astype(dtype)),
                jax.jit(bnn.nngp)(network, x.astype(dtype)),
            ):
                assert found.dtype == dtype
                np.testing.assert_allclose(found, wide, rtol=1e-5)
            assert bnn.nngp(network, x.astype(dtype), diagonal=True).dtype == dtype


def test_whole_numbers_serve_while_compiling_too(rng):
    images = rng.integers(0, 255, (3, 2)).astype(np.uint8)
    network = bnn.fcn(1, 3, 1)
    compiled = jax.jit(lambda x: bnn.nngp(network, x))(images)
    np.testing.assert_allclose(compiled, bnn.nngp(network, images), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_diagonals_suffice_without_pooling(kind, rng, tolerance):
    """A pool over single positions changes nothing but that pairs of positions are kept."""

    def network(*pool):
        conv = bnn.Conv(3, (3, 2), (1, 2), w_std=1.3, b_std=0.2)
        return bnn.Network(
            [
                conv,
                bnn.LayerNorm(),
                bnn.Activation("relu"),
                *pool,
                conv,
                bnn.Residual([bnn.Activation("gelu"), bnn.Conv(3, (2, 1))]),
                *pool,
                bnn.Flatten(),
                bnn.Dense(1),
            ]
        )

    x = jnp.asarray(rng.standard_normal((3, 3, 4, 2)))
    few, all_pairs = (
        quickly(lambda x, own=own: getattr(bnn, kind)(own, x))(x)
        for own in (network(), network(bnn.AvgPool((1, 1))))
    )
    assert plan.entries_per_pair(network(), (3, 4, 2))[0] == 12
    assert plan.entries_per_pair(network(bnn.AvgPool((1, 1))), (3, 4, 2))[0] == 144
    np.testing.assert_allclose(few, all_pairs, rtol=tolerance)


def relu_dual(cov, variance1, variance2):
    """Value and slope (Cho and Saul 2009)."""
    root = np.sqrt(np.outer(variance1, variance2))
    angle = np.arccos(np.clip(cov / root, -1, 1))
    value = root * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return value, (np.pi - angle) / (2 * np.pi)


def test_a_pooled_convolution_is_the_double_loop_over_positions(rng):
    w1, b1, w2, w3, length, channels = 1.4, 0.3, 1.2, 0.9, 4, 2
    network = bnn.Network(
        [
            bnn.Conv(5, 3, 1, "CIRCULAR", w1, b1),
            bnn.Activation("relu"),
            bnn.Conv(5, 2, 2, "SAME", w2),
            bnn.GlobalAvgPool(),
            bnn.Dense(1, w3),
        ]
    )
    x = rng.standard_normal((2, length, channels))

    def convolved(cov, w_std, window, stride, pad, circular):
        def at(p, q):
            if circular:
                return cov[p % length, q % length]
            return cov[p, q] if max(p, q) < length else 0.0

        return w_std**2 * np.array(
            [
                [np.mean([at(p + k - pad, q + k - pad) for k in range(window)]) for q in positions]
                for positions in [range(0, length, stride)]
                for p in positions
            ]
        )

    gram = np.einsum("npc,mqc->nmpq", x, x) / channels
    first = np.array([[convolved(g, w1, 3, 1, 1, True) + b1**2 for g in row] for row in gram])
    expected = np.empty((2, 2, 2))
    for n in range(2):
        for m in range(2):
            variances = np.diagonal(first[n, n]), np.diagonal(first[m, m])
            value, slope = relu_dual(first[n, m], *variances)
            second = convolved(value, w2, 2, 2, 0, False)
            tangent = second + convolved(first[n, m] * slope, w2, 2, 2, 0, False)
            nngp = w3**2 * second.mean()
            expected[:, n, m] = nngp, nngp + w3**2 * tangent.mean()
    rtol = 1e-9 if X64 else 1e-4
    for found, kernel in zip(bnn.nngp_and_ntk(network, x), expected, strict=True):
        np.testing.assert_allclose(found, kernel, rtol=rtol)


def test_one_program_serves_all_scales_and_inputs_of_a_shape(rng):
    traces = []

    def counted(x):
        traces.append(x.shape)
        return x / (1 + jnp.abs(x))

    activation = bnn.Activation(counted, degree=3)

    def kernels(w_std, b_std):
        network = bnn.Network([bnn.Dense(3, w_std, b_std), activation, bnn.Dense(1, w_std)])
        x = rng.standard_normal((4, 2))
        return bnn.ntk(network, x), bnn.nngp(network, x, diagonal=True)

    kernels(1.0, 0.5)
    programs = tiles.stacked_tiles._cache_size()
    for scale in (0.3, 2, np.float32(1.7)):
        kernels(scale, scale)
    assert tiles.stacked_tiles._cache_size() == programs
    kernels(1.0, None)
    assert tiles.stacked_tiles._cache_size() == programs + 1
    assert traces


@pytest.mark.parametrize("activation", ["relu", "erf", "gelu"])
def test_extreme_scales_leave_numbers(activation, rng):
    """As long as the product of two variances is one."""
    x = jnp.asarray(np.concatenate([rng.standard_normal((2, 3)), np.zeros((1, 3))]))

    @quickly
    def kernels(scale, x):
        network = bnn.fcn(2, 3, 1, activation, b_std=None)
        by_weights = bnn.fcn(2, 3, 1, activation, w_std=scale**0.5, b_std=scale)
        return [*bnn.nngp_and_ntk(network, scale * x), *bnn.nngp_and_ntk(by_weights, x)]

    for exponent in (-40, -8, 8, 40) if X64 else (-5, 5):
        for kernel in kernels(jnp.asarray(10.0**exponent), x):
            assert np.isfinite(kernel).all()
            assert (np.diagonal(kernel) >= 0).all()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: bnn.nngp(FLAT, x, x, diagonal=True), "diagonal: got x1 and x2"),
        (lambda x: bnn.nngp(FLAT, x, x[:, :2]), r"x2: got examples of shape \(2,\).*\(3,\) as in"),
        (lambda x: bnn.nngp(FLAT, x[0]), "x1: got shape"),
        (lambda x: bnn.nngp(FLAT, x[:, None]), r"layer 0 \(Dense\): Dense input.*flat"),
        (lambda x: bnn.ntk(SPATIAL, x), r"layer 0 \(Conv\): Conv input.*\(length, channels\)"),
        (lambda x: bnn.nngp(FLAT, x * np.nan), "x1: got 6 values that are NaN"),
        (lambda x: bnn.nngp(FLAT, x, memory=0), "memory: got 0"),
        (lambda x: bnn.nngp(FLAT, x, memory=64), "memory: got 64 bytes.*layer 0 .Dense."),
        (lambda x: bnn.nngp(FLAT, x[:0]), "x1: got shape .0, 3."),
        (lambda x: jax.jit(lambda x: bnn.nngp(FLAT, x))(x[0]), "x1: got shape"),
        (lambda x: bnn.nngp(SPATIAL, x[:, :, None], diagonal=True, memory=99), "memory: got 99"),
        (lambda x: bnn.nngp([bnn.Dense(1)], x), "network: got list; expected a Network"),
    ],
)
def test_bad_calls_are_refused(call, expected):
    with pytest.raises(ValueError, match=expected):
        call(np.ones((2, 3)))
