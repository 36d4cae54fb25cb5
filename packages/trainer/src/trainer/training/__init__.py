"""Training: examples to gradients, exactly, and a model's folder at the end."""
