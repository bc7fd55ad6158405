"""Measure, verify, search, remember and choose variants. Needs no GPU and no MLX to be tested."""
