"""Measure, verify, search, remember and choose variants: search -> record -> database -> report."""
