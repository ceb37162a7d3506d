"""The verbs of the shell and the notebook: their syntax, and the call behind each."""
