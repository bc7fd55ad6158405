"""What is stored: rotation, codebook, packing, scheme, and the float64 reference. NumPy only."""
