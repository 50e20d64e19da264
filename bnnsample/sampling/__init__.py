"""Markov chains on targets: samplers, warm-up, the run, and draws on disk."""
