"""mlx-lm's server over compressed caches: each answer that of the same request alone."""
