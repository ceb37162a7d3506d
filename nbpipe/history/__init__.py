"""What happened: runs, executions, attempts, results and claims, kept in one SQL database."""
