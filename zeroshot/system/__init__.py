"""Access to the operating system: durable files, folders of this user, memory, devices, signals."""
