"""What a step uses without declaring it: recorded in its kernel, evaluated by its worker."""
