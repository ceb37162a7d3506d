"""What the author wrote: cells, declarations, definitions and parameters, read without running anything."""
