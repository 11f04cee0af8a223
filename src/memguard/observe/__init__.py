"""SEE: what this process's memory is doing, read cheaply."""
