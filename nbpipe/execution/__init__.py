"""One attempt: its papermill engine, its kernel, and the kernel's own side."""
