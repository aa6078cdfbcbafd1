"""Module 4: scores what was measured, and says in words what it taught."""
