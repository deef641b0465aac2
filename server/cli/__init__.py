"""The options and arguments of each command, by click. Loads nothing heavy."""
