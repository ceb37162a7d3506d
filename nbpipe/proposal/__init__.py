"""From a plain notebook to a pipeline: which cells become steps, under which names, with which inputs and outputs."""
