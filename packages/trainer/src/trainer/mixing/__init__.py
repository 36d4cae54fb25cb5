"""Mixtures: which conversations of which datasets a model is to learn from."""
