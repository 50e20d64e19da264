"""Repriorisation of a NumPyro user's own model.

The model names three sites: its readout, a linear map of the features with a Gaussian prior; the
features (n, p), a deterministic site; and the Gaussian likelihood. It is run with the readout at 0,
which gives features, offset and noise; then its likelihood is replaced by the collapsed one, and
the readout by what the map makes of N(0, I), or by nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key
from numpyro import handlers

from bnnsample.checks import bad_input
from bnnsample.integrations.intercept import Intercept, check_around
from bnnsample.integrations.linearity import check_linear, gaussian_parameters, shared_scale
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.bijections import AbstractReadoutMap
from bnnsample.repriorisation.collapse import NoiseStd, collapsed_log_likelihood
from bnnsample.repriorisation.conditional import readout_bijection

type Model = Callable[..., Any]


class _Linear(NamedTuple):
    """The part of the model that is Gaussian given the rest.

    ``y - offset = features @ W + noise`` with ``W`` from N(0, I) and ``readout = loc + scale W``.
    """

    features: Float[Array, "n p"]
    y: Float[Array, "n o"]
    noise_std: NoiseStd
    loc: Float[Array, "p o"]
    scale: Float[Array, "#p 1"]
    shape: tuple[int, ...]

    @property
    def log_likelihood(self) -> Float[Array, ""]:
        return collapsed_log_likelihood(self.features, self.y, self.noise_std)

    @property
    def bijection(self) -> AbstractReadoutMap:
        return readout_bijection(self.features.shape[1], self.y, self.noise_std)

    def readout(self, phi: Float[Array, "p o"]) -> Array:
        standard, _ = self.bijection.forward_and_logdet(self.features, phi)
        return (self.loc + self.scale * standard).reshape(self.shape)


class Repriorise:
    """``model`` with its readout repriorised, or integrated out: a model with the same arguments.

    ``readout``, ``features``, ``likelihood``: names of the sites. The readout's prior is a Normal
    with one scale for all outputs, (p, o) or (p,); the features are (n, p), recorded by
    ``numpyro.deterministic``; the likelihood is a Normal around a linear function of the readout,
    observed. With ``form="repriorised"`` there is a site ``{readout}_base`` from N(0, I) in the
    readout's place, which is deterministic then. With ``form="marginal"`` there is none, and
    ``complete`` draws the readout given samples of all else.

    What is not exact is refused, with the reason: another prior, another likelihood, a readout used
    in any other way. That it is linear is seen by running the model at another readout, where its
    arguments are arrays and not traced.
    """

    def __init__(
        self,
        model: Model,
        *,
        readout: str,
        features: str,
        likelihood: str,
        form: Literal["repriorised", "marginal"] = "repriorised",
    ) -> None:
        if form not in ("repriorised", "marginal"):
            raise bad_input(
                "Repriorise form",
                got=repr(form),
                expected="'repriorised' or 'marginal'",
                probably="a typing error",
            )
        self.model = model
        self.sites = {"readout": readout, "features": features, "likelihood": likelihood}
        if len(set(self.sites.values())) < len(self.sites):
            raise bad_input(
                "Repriorise",
                got=f"sites {self.sites}",
                expected="three names, as they are three sites",
                probably="a typing error",
            )
        self.form = form

    @full_precision
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model; in the marginal form it returns nothing, as nothing has the readout."""
        check_around(self.sites)
        linear, values = self._without_readout(args, kwargs)
        check_linear(self.model, self.sites, args, kwargs)
        numpyro.factor(f"{self.sites['likelihood']}_collapsed", linear.log_likelihood)
        if self.form == "marginal":
            return None
        law = dist.Normal(0.0, 1.0).expand(linear.loc.shape).to_event(2)
        phi = numpyro.sample(f"{self.sites['readout']}_base", law)
        result, deterministic = self._with_readout(
            linear.readout(jnp.asarray(phi)), values, args, kwargs
        )
        for name, value in deterministic.items():
            numpyro.deterministic(name, value)
        return result

    @full_precision
    def complete(
        self, key: Key[Array, ""], samples: Mapping[str, Array], *args: Any, **kwargs: Any
    ) -> dict[str, Array]:
        """``samples`` of the marginal form, with the readout drawn and what depends on it.

        Arguments are those with which the model was sampled. ``numpyro.infer.Predictive`` of the
        model itself takes the result.
        """

        def one(case: tuple[Array, dict[str, Array]]) -> dict[str, Array]:
            own_key, sample = case
            with handlers.block(), handlers.substitute(data=sample):
                linear, values = self._without_readout(args, kwargs)
            phi = jax.random.normal(own_key, linear.loc.shape, linear.loc.dtype)
            return self._with_readout(linear.readout(phi), values, args, kwargs)[1]

        self._check_samples(samples, args, kwargs)
        draws = len(next(iter(samples.values())))
        drawn = jax.lax.map(one, (jax.random.split(key, draws), dict(samples)))
        return dict(samples) | drawn

    def _check_samples(
        self, samples: Mapping[str, Array], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.form != "marginal":
            raise bad_input(
                "Repriorise.complete",
                got=f"form {self.form!r}",
                expected="'marginal', whose samples lack the readout",
                probably="samples that have it already, as a deterministic site",
            )
        with handlers.block():
            trace = handlers.trace(handlers.seed(self, 0)).get_trace(*args, **kwargs)
        for name, site in trace.items():
            if site["type"] != "sample" or site["is_observed"]:
                continue
            expected = jnp.shape(site["value"])
            got = jnp.shape(samples[name]) if name in samples else ()
            if name not in samples or got[1:] != expected or len(got) == len(expected):
                raise bad_input(
                    f"samples of {name}",
                    got=f"shape {got}" if name in samples else f"those of {sorted(samples)} alone",
                    expected=f"(draws, ...) with {expected} in each draw",
                    probably="samples grouped by chain, or of another model",
                )

    def _without_readout(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[_Linear, dict[str, Any]]:
        """What is linear in the readout, and the values of all other sites."""
        seen = Intercept(self.sites)
        with seen:
            self.model(*args, **kwargs)
        messages = seen.found()
        features, shape = messages["features"]["value"], messages["readout"]["value"].shape
        (prior_loc, prior_scale), (mean, noise_std) = (
            [part.astype(features.dtype) for part in gaussian_parameters(messages[name])]
            for name in ("readout", "likelihood")
        )
        wide = (shape[0], shape[1] if len(shape) == 2 else 1)
        y = messages["likelihood"]["value"]
        outputs = (len(features), wide[1])
        drawn = messages["likelihood"]["fn"].shape()
        fits = jnp.shape(y) == drawn and jnp.size(y) == outputs[0] * outputs[1]
        if features.ndim != 2 or features.shape[1] != shape[0] or not fits:
            raise bad_input(
                f"site {self.sites['features']}",
                got=f"features {features.shape}, a readout {shape} and targets {jnp.shape(y)} of a "
                f"likelihood of {drawn}",
                expected="features (n, p), a readout (p, o) or (p,) and targets (n, o) or (n,)",
                probably="another site's name, features of one example, or targets (n, 1) for (n,)",
            )
        loc = jnp.broadcast_to(prior_loc, shape).reshape(wide)
        scale = shared_scale(prior_scale, shape)
        offset = jnp.broadcast_to(mean, y.shape).reshape(outputs) + features @ loc
        if noise_std.ndim > 0:
            noise_std = jnp.broadcast_to(noise_std, y.shape).reshape(outputs)
        centred = jnp.asarray(y, features.dtype).reshape(outputs) - offset
        return _Linear(features * scale.T, centred, noise_std, loc, scale, shape), seen.values

    def _with_readout(
        self, readout: Array, values: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Array]]:
        """What the model returns, and its deterministic sites with the readout among them."""
        known = values | {self.sites["readout"]: readout}
        with handlers.block(), handlers.trace() as trace, handlers.substitute(data=known):
            result = self.model(*args, **kwargs)
        deterministic = {
            name: site["value"] for name, site in trace.items() if site["type"] == "deterministic"
        }
        return result, {self.sites["readout"]: readout} | deterministic
