"""Validation: whether draws follow the posterior that was asked for, held against known truth."""
