"""From a frame to committed rows: decode, group, commit; then tell the subscribers."""
