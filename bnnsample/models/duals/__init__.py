"""Dual activations: ``E[phi(u) phi(v)]`` and ``E[phi'(u) phi'(v)]`` for Gaussian ``(u, v)``.

What an elementwise function does to the prior covariance of an infinitely wide layer, and to its
tangent kernel. Closed forms: ``polynomials``, ``arc_cosine``, ``gaussian_integrals``,
``exponentials``. Every other function: ``hermite``. By name: ``known``.
"""
