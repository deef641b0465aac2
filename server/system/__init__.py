"""The machine: CPUs, memory, child processes, the sandbox, temporary files."""
