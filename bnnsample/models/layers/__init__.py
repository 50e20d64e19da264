"""Layers, each the triple (init, apply, kernel): draw, act at finite width, take the limit."""
