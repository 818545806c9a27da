"""Sends alerts: to the log, or a webhook that takes Slack's JSON."""
