"""What a training run tells while it runs and afterwards: progress, log, alarms, evaluations, the run card."""
