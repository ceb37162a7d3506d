"""The processes of kernels: how they are started, supervised and ended."""
