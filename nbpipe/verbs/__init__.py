"""The verbs: what can be asked in a shell and in a notebook, how it is written, and the call behind each."""
