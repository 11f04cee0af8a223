"""A workload that wants a gigabyte, in 300 MiB: killed without memguard, finished with it."""
