"""The runner: a program that carries out the runs that its client submits, beside the client's own process."""
