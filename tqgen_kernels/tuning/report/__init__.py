"""What was measured, for people: one page and its pictures."""
