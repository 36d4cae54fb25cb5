"""What runs in the sandbox's own processes: only the standard library, and one another."""
