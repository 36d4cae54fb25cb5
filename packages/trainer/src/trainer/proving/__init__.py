"""Proofs on the user's own model and data: masks, packing, layouts, ZeRO stages, resuming."""
