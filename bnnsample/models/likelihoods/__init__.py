"""Likelihoods of the targets given the network's outputs, one family a file."""
