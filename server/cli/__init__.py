"""What each command accepts: argparse, nothing heavy."""
