"""Where bytes go: files that appear whole or are continued, renderers of results, and report pages."""
