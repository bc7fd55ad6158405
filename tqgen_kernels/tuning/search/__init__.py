"""Candidates compiled, verified and timed until one wins; needs no GPU to be tested."""
