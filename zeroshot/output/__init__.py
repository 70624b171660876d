"""Where bytes go: files that appear whole, and files that are continued where a run was cut short."""
