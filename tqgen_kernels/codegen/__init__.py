"""From a problem and a config to Metal text: families, search spaces, rendering. No MLX."""
