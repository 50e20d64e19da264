"""Samplers: small settings records that build blackjax's own ``(init, step)`` pairs."""
