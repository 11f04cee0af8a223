"""FIND: is it a leak, which line allocates it, who holds it."""
