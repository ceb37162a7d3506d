"""The processes of kernels: starting, supervising and ending them."""
