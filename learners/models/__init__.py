"""The algorithms, one module each: parameters, kernels, state."""
