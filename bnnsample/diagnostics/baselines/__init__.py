"""Simpler ways to predict from the same posterior, for a sampled network to be judged by."""
