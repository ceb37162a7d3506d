"""What will happen and why: graph, reuse keys, verdicts and the run's state machine, all pure."""
