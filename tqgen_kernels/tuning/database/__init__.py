"""Records on disk, carried between machines, and which of them decides."""
