"""What a policy says of an attempt: rules, names, addresses, paths. Pure but for the presets' files."""
