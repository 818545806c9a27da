"""Where alerts go: the log, or a webhook that takes Slack's JSON."""
