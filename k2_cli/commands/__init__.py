"""One module a command, of the command's name: parses arguments, calls what does the work, prints the answer."""
