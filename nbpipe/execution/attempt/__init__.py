"""One attempt on a worker: its directory, its papermill run, its outcome."""
