"""What a training run will need, from arithmetic alone: memory, steps, FLOPs, hours, disk, and what would fit."""
