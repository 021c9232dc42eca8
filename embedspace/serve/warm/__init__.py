"""The warm command's server: commands of this user's command line, run with the models loaded."""
