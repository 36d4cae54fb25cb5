"""Which rank reads which examples when, and what other ways of doing it would cost."""
