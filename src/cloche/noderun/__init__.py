"""What a node process needs around its API: its settings, its directory, its log and its clock of idleness."""
