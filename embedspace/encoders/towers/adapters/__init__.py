"""One file for each library that runs a tower; each is imported when its prefix is first used."""
