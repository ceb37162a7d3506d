"""Values as words, tables and pages for people: pure, so every face shows the same."""
