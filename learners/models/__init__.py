"""The learners' kernels, one module each."""
