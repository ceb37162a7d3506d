"""What helps to write a notebook: linting, linter settings, edits of its file, advice, a step's context."""
