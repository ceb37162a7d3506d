"""Tools for notebook authors: linting, linter settings, edits of the notebook's file, advice, a step's context."""
