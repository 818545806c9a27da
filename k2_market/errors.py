"""Defines the root of K2's errors, and the errors that the domain raises."""


class K2Error(Exception):
    """Something K2 was asked to do could not be done; the message says what, where and what to do."""


class FeedFileError(K2Error):
    """A feed's TOML file is not a valid feed declaration."""


class UnknownFeedError(K2Error):
    """A feed was named that no file declares."""


class SourceFileError(K2Error):
    """A file of trades or quotes holds something that can't be read as such; names the file and the row."""


class LedgerError(K2Error):
    """A ledger can't be read, or does not fit the table or topic it stands for."""


class CalendarError(K2Error):
    """A trading day or instant lies outside what the feed's calendar knows."""
