"""Programs that try what a sandbox must not let them do, and the harness that watches them try."""
