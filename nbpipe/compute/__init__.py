"""Where steps run: compute targets, their executors, and the interpreters of kernels. Dask lives here."""
