"""What happened: runs, steps, attempts, results and claims, kept in one SQL database."""
