"""Registries: an entry added here is covered by every property test that runs over its table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import bnnsample as bnn
from bnnsample.models.kernel import Shape
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.samplers.base import AbstractSampler
from tests.quick import cases


def softsign(x: jax.Array) -> jax.Array:
    return x / (1 + jnp.abs(x))


NETWORKS = {
    "shallow gelu": bnn.fcn(1, 5, 3, "gelu"),
    "deep relu without biases": bnn.fcn(3, 6, 1, "relu", b_std=0.0, b_std_out=0.0),
    "erf": bnn.fcn(2, 4, 2, "erf", w_std=1.7, b_std=0.6, w_std_out=0.8, b_std_out=0.3),
    "tanh": bnn.fcn(1, 4, 3, "tanh", w_std=1.2, b_std=0.4),
    "own function": bnn.fcn(1, 7, 2, softsign),
    "linear": bnn.Network([bnn.Dense(6, 1.3, 0.2), bnn.Dense(4, 0.7, 0.5)]),
    "no hidden parameters": bnn.Network([bnn.Activation("relu"), bnn.Dense(2, 1.4, 0.3)]),
}


class Case(NamedTuple):
    """A likelihood, and targets of its kind for n points and o outputs."""

    likelihood: bnn.AbstractLikelihood
    targets: Callable[[np.random.Generator, int, int], np.ndarray]


LIKELIHOODS = {
    "Gaussian": Case(bnn.Gaussian(0.4), lambda rng, n, o: rng.standard_normal((n, o))),
    "heteroscedastic": Case(
        bnn.HeteroscedasticGaussian(), lambda rng, n, o: rng.standard_normal((n, o // 2))
    ),
    "Student t": Case(bnn.StudentT(3.5, 0.7), lambda rng, n, o: rng.standard_normal((n, o))),
    "Bernoulli": Case(bnn.Bernoulli(), lambda rng, n, o: rng.integers(0, 2, (n, o))),
    "categorical": Case(bnn.Categorical(), lambda rng, n, o: rng.integers(0, o, (n, 1))),
    "Poisson": Case(bnn.Poisson(), lambda rng, n, o: rng.poisson(2.0, (n, o))),
    "negative binomial": Case(
        bnn.NegativeBinomial(1.7), lambda rng, n, o: rng.poisson(2.0, (n, o))
    ),
}
EACH_LIKELIHOOD = cases(LIKELIHOODS.keys(), slow={"Student t", "negative binomial"})
"""For tests of much compiling: those whose densities are of gamma functions compile longest."""

PRIORS = {
    "half-normal": dist.HalfNormal(0.7),
    "half-Cauchy": dist.HalfCauchy(1.3),
    "log-normal": dist.LogNormal(-0.2, 0.6),
    "gamma": dist.Gamma(2.5, 1.7),
    "inverse gamma": dist.InverseGamma(3.0, 2.0),
    "exponential": dist.Exponential(1.4),
    "uniform": dist.Uniform(0.2, 1.9),
    "Weibull": dist.Weibull(1.2, 1.8),
}
"""Priors of positive numbers."""

SAMPLERS: dict[str, AbstractSampler] = {
    "HMC rotation": bnn.HMC(),
    "HMC leapfrog": bnn.HMC(6, integrator="leapfrog"),
    "HMC diagonal": bnn.HMC(5, mass="diagonal"),
    "alternating": bnn.AlternatingHMC(),
    "NUTS rotation": bnn.NUTS(max_doublings=5),
    "NUTS leapfrog": bnn.NUTS(integrator="leapfrog", max_doublings=6, mass="diagonal"),
    "MALA rotation": bnn.MALA(),
    "MALA leapfrog": bnn.MALA(integrator="leapfrog"),
    "pCNL": bnn.PCNL(),
    "pCN": bnn.PCN(),
    "elliptical slice": bnn.EllipticalSlice(),
    "Langevin rotation": bnn.Langevin(),
    "Langevin leapfrog": bnn.Langevin(integrator="leapfrog"),
    "microcanonical": bnn.MicrocanonicalLangevin(),
    "microcanonical, unadjusted": bnn.UnadjustedMicrocanonicalLangevin(),
}
EXACT_SAMPLERS = {name: sampler for name, sampler in SAMPLERS.items() if sampler.exact}


def goes_with(sampler: str, target: str) -> bool:
    """Whether the target has what the sampler needs: a readout to be sampled."""
    return sampler != "alternating" or target != "marginal"


MAPPED_TARGETS = {name: target for name, target in TARGETS.items() if name != "standard"}

SHAPES = {"n < p": (5, 8), "n = p": (6, 6), "n > p": (9, 4)}
"""Points and readout features (n, p) on both sides of where the cheaper form changes."""


class Limit(NamedTuple):
    """A network of any width, for examples of ``input_shape``."""

    network: Callable[[int], bnn.Network]
    input_shape: Shape


def _network(layers: Callable[[int], list[bnn.AbstractLayer]]) -> Callable[[int], bnn.Network]:
    return lambda width: bnn.Network([*layers(width), bnn.Dense(2, 1.2, 0.3)])


relu, erf, gelu = (bnn.Activation(name) for name in ("relu", "erf", "gelu"))

LIMITS = {
    "dense": Limit(
        lambda w: bnn.Network(
            [bnn.Dense(w, 1.4, 0.3), erf, bnn.Dense(w + 1, 1.2), relu, bnn.Dense(2, 0.8, 0.2)]
        ),
        (3,),
    ),
    "dense, no activation": Limit(_network(lambda w: [bnn.Dense(w, 1.3, 0.5)]), (3,)),
    "dense, standard": Limit(
        lambda w: bnn.Network(
            [
                bnn.Dense(w, 1.4, 0.3, "standard"),
                gelu,
                bnn.Dense(w + 1, 1.2, None, "standard"),
                erf,
                bnn.Dense(2, 0.8, 0.2, "standard"),
            ]
        ),
        (3,),
    ),
    "dense, both parameterisations": Limit(
        _network(lambda w: [bnn.Dense(w, 1.4, 0.3), relu, bnn.Dense(w, 1.1, 0.4, "standard"), erf]),
        (3,),
    ),
    "tanh by expansion": Limit(
        _network(lambda w: [bnn.Dense(w, 1.2, 0.4), bnn.Activation("tanh")]), (3,)
    ),
    "softplus by expansion": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 2, padding="VALID", w_std=1.2),
                bnn.Activation("softplus", degree=12),
                bnn.GlobalAvgPool(),
            ]
        ),
        (4, 2),
    ),
    "conv 1-d": Limit(
        _network(lambda w: [bnn.Conv(w, 3, w_std=1.4, b_std=0.2), relu, bnn.Flatten()]), (5, 2)
    ),
    "conv 1-d, strided, VALID": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 3, 2, "VALID", 1.4, 0.2),
                erf,
                bnn.Conv(w, 2, 1, "VALID", 1.2),
                relu,
                bnn.Flatten(),
            ]
        ),
        (8, 2),
    ),
    "conv 1-d, CIRCULAR, pooled": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 4, 2, "CIRCULAR", 1.4, 0.2),
                relu,
                bnn.Conv(w, 3, 1, "CIRCULAR", 1.4, 0.2),
                erf,
                bnn.GlobalAvgPool(),
            ]
        ),
        (7, 2),
    ),
    "conv 2-d, strided": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, (3, 2), (2, 1), "SAME", 1.4, 0.2),
                relu,
                bnn.Conv(w, (1, 3), None, "VALID", 1.3),
                erf,
                bnn.Flatten(),
            ]
        ),
        (5, 4, 2),
    ),
    "conv 2-d, CIRCULAR, pooled": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, (2, 3), (1, 2), "CIRCULAR", 1.4, 0.2),
                gelu,
                bnn.GlobalAvgPool(),
            ]
        ),
        (3, 4, 1),
    ),
    "conv, standard": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 2, 1, "SAME", 1.4, 0.2, "standard"),
                relu,
                bnn.Conv(w + 1, 3, 2, "CIRCULAR", 1.2, None, "standard"),
                erf,
                bnn.GlobalAvgPool(),
                bnn.Dense(w, 1.3, 0.2, "standard"),
            ]
        ),
        (5, 2),
    ),
    "pooled between": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, (3, 2), w_std=1.4, b_std=0.2),
                relu,
                bnn.AvgPool((2, 1)),
                bnn.Conv(w, (2, 2), w_std=1.3),
                relu,
                bnn.Flatten(),
            ]
        ),
        (4, 3, 1),
    ),
    "overlapping pools with padding": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 2, w_std=1.4, b_std=0.2),
                relu,
                bnn.AvgPool(3, 2, "SAME"),
                bnn.Conv(w, 2, w_std=1.3),
                erf,
                bnn.AvgPool(2, 1, "CIRCULAR"),
                bnn.Flatten(),
            ]
        ),
        (6, 1),
    ),
    "layer norm": Limit(
        _network(
            lambda w: [
                bnn.Dense(w, 1.4, 0.3),
                bnn.LayerNorm(),
                gelu,
                bnn.Dense(w, 1.2, 0.2),
                bnn.LayerNorm(),
                erf,
            ]
        ),
        (3,),
    ),
    "layer norm on images": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, (2, 2), w_std=1.4, b_std=0.3),
                bnn.LayerNorm(),
                relu,
                bnn.AvgPool((2, 1), 1),
                bnn.Conv(w, (1, 2), w_std=1.4, b_std=0.3),
                bnn.LayerNorm(),
                bnn.GlobalAvgPool(),
            ]
        ),
        (3, 2, 2),
    ),
    "attention": Limit(
        _network(
            lambda w: [
                bnn.SelfAttention(w, "softmax", 1.3, 1.1, 1.2, 0.9, 0.2),
                relu,
                bnn.GlobalAvgPool(),
            ]
        ),
        (4, 3),
    ),
    "attention, no softmax": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, (1, 2), w_std=1.2, b_std=0.2),
                relu,
                bnn.SelfAttention(w, "identity", 0.9, 0.8, 1.2, 0.9),
                bnn.Flatten(),
            ]
        ),
        (2, 2, 2),
    ),
    "attention, independent positions": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 1, w_std=1.2),
                bnn.SelfAttention(w, position_std=0.8, b_std=0.1),
                erf,
                bnn.Flatten(),
            ]
        ),
        (3, 2),
    ),
    "attention, smooth positions": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, (1, 1), w_std=1.2),
                relu,
                bnn.SelfAttention(w, position_std=0.8, position_length=1.5),
                bnn.GlobalAvgPool(),
            ]
        ),
        (2, 3, 2),
    ),
    "residual": Limit(
        _network(
            lambda w: [
                bnn.Dense(w, 1.2, 0.3),
                bnn.Residual([relu, bnn.Dense(w, 1.1)], bnn.Scale(0.7)),
                bnn.Residual([bnn.Dense(w, 0.9), erf], [bnn.Dense(w, 0.8, 0.3)]),
            ]
        ),
        (3,),
    ),
    "nested residuals": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 2, w_std=1.2, b_std=0.2),
                bnn.Residual(
                    [
                        relu,
                        bnn.Conv(w + 1, 3, 2, w_std=1.2),
                        bnn.Residual([erf, bnn.Conv(w + 1, 2, w_std=0.9)], bnn.Identity()),
                        bnn.Scale(0.8),
                    ],
                    [bnn.Conv(w + 1, 1, 2, w_std=0.7, b_std=0.3)],
                ),
                relu,
                bnn.GlobalAvgPool(),
            ]
        ),
        (4, 2),
    ),
    "transformer": Limit(
        _network(
            lambda w: [
                bnn.Conv(w, 1, w_std=1.2, b_std=0.2),
                bnn.Residual([bnn.LayerNorm(), bnn.SelfAttention(w)]),
                bnn.Residual([bnn.LayerNorm(), bnn.Conv(w, 1), relu, bnn.Conv(w, 1)]),
                bnn.LayerNorm(),
                bnn.GlobalAvgPool(),
            ]
        ),
        (3, 2),
    ),
    "fixed first layers": Limit(
        _network(
            lambda w: [
                bnn.AvgPool(2, 1),
                bnn.LayerNorm(),
                bnn.Residual([erf, bnn.Scale(0.5)]),
                bnn.Flatten(),
                bnn.Dense(w, 1.4, 0.2),
                relu,
            ]
        ),
        (4, 3),
    ),
    "no hidden parameters": Limit(
        lambda w: bnn.Network([bnn.GlobalAvgPool(), relu, bnn.Dense(2, 1.4, 0.3)]), (4, 3)
    ),
    "fcn": Limit(lambda w: bnn.fcn(2, w, 2), (3,)),
    "convnet": Limit(lambda w: bnn.convnet(1, w, 2), (3, 3, 2)),
    "convnet, pooled": Limit(
        lambda w: bnn.convnet(1, w, 2, "erf", pooling=True, filter_shape=(2,)), (4, 2)
    ),
    "resnet": Limit(lambda w: bnn.resnet(8, w, 2, "relu"), (4, 4, 1)),
    "attention_classifier": Limit(
        lambda w: bnn.attention_classifier(w, 2, patch=(2, 1), position_length=1.0), (4, 2, 1)
    ),
}
"""Networks whose limits are closed: together every layer, option and builder."""
