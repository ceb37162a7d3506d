"""Where steps run: compute targets, their executors (Dask), and the interpreters of kernels."""
