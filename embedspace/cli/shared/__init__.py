"""What several verbs of the command line share: options, output, progress, the space, target files."""
