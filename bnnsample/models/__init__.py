"""Finite networks, their priors and likelihoods, and how each layer acts on kernels."""
