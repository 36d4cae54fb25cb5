"""trainer tunes language models on instructions; so far it prepares, checks and counts what they will learn from."""
