"""mlx-lm caches that hold keys and values compressed, and the hook that attends to them."""
