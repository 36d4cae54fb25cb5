"""Launching: the commands that start a run on one machine or many, and what all ranks check before they begin."""
