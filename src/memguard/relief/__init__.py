"""GIVE: memory given back before the kernel takes it."""
