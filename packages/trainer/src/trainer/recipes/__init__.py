"""Recipes: the settings of every model that the paper trained, and the commands from its data to its numbers."""
