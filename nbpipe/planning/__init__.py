"""Planning without side effects: graph, reuse keys, verdicts and the run's state machine."""
