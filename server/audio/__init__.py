"""An upload in, windows of speech out; files are decoded in confined processes."""
