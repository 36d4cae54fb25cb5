"""Evaluation items that stand in training data: found, told and left out."""
