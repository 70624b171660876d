"""What the operating system is asked: disk, memory, signals."""
