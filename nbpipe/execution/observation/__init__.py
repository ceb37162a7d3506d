"""What a step uses without declaring it: recorded in its kernel, summed up by its worker."""
