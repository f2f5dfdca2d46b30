"""Drill: stacks of their own on which something is measured or broken on purpose."""
