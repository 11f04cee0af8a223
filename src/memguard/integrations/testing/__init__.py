"""
The pytest plugin: memory limits, leaks and leftovers of tests. See ``docs/pytest.md``.

Nothing is exported: pytest loads `plugin`, which loads the rest when a test asks for it.
"""

PREFIX = "memguard."
"""Of the properties that the reports of tests carry."""
