"""Says in words why an exchange has no session on a day."""

from datetime import date

from k2_market.feeds.trading_calendar import TradingCalendar

_SATURDAY = 5


def why_no_session(calendar: TradingCalendar, day: date, today: date) -> str | None:
    """Say why a day has no session, or none yet: the future, a weekend, a holiday; None for a day that has one.

    Args:
        calendar: The exchange's sessions.
        day: The day.
        today: The date at the exchange.

    Raises:
        CalendarError: The sessions can't be had.
    """
    if day > today:
        return f"{day} has not come yet: it is {today} at the exchange"
    if calendar.is_trading_day(day):
        return None
    if day.weekday() >= _SATURDAY:
        return f"{day} is a {day:%A}, and {calendar.calendar_name} has no session then"
    return f"{day} is a {day:%A} without a session of {calendar.calendar_name}: a holiday"
