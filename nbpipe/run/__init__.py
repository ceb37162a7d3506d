"""A run carried out: what is so at submit, the driver loop, and who owns what."""
