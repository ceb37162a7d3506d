"""One attempt: its papermill engine, its kernel, and the code inside the kernel."""
