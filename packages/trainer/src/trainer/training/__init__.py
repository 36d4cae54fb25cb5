"""Training: from settings, a model folder and prepared data to a tuned model folder."""
