"""Access to the operating system: disk, memory, signals."""
