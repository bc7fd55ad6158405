"""Finds faults in Metal texts: without running them (`static`), and by running them (`run`)."""
