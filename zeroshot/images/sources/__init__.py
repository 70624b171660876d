"""Where an image's bytes lie: in a file, in an archive, in an object store. One name each, one way to open it."""
