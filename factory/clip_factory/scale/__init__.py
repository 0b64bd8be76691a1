"""Where the work of a stage runs: in this process, or wherever an installed package takes it."""
