"""What an owner wants to be told about: read from what a client sent, and quiet hours by the clock on the wall."""

from datetime import datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.core.preferences import DROP, HOLD, KINDS, MAX_MUTED, Preferences, QuietHours

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"

ZONES = (
    BERLIN,
    NEW_YORK,
    LORD_HOWE,  # changes by half an hour
    "America/St_Johns",
    "America/Sao_Paulo",  # changed at midnight, until 2019
    "Africa/Casablanca",  # goes back for Ramadan
    "Asia/Kathmandu",  # 5:45 ahead, never changes
    "Pacific/Chatham",
    "Pacific/Apia",  # left out 30 December 2011
    "UTC",
)
LONGEST_DAY = timedelta(hours=25)  # a day, and the hour that it has more when the clock is put back


def at(text, zone="UTC", *, fold=0):
    """A moment, by the clock on a wall."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(timezone.utc)


def quiet(begin, end, zone):
    return QuietHours(time.fromisoformat(begin), time.fromisoformat(end), zone)


def wall_times():
    return st.times().map(lambda found: found.replace(second=0, microsecond=0))


@st.composite
def hours(draw):
    begin = draw(wall_times())
    return QuietHours(begin, draw(wall_times().filter(lambda end: end != begin)), draw(st.sampled_from(ZONES)))


BEGIN = datetime(2005, 1, 1, tzinfo=timezone.utc)
moments = st.integers(0, 32 * 366 * 86_400).map(lambda seconds: BEGIN + timedelta(seconds=seconds))


@st.composite
def changes(draw):
    """A zone, and a moment within a day of a change of its clock."""
    zone = draw(st.sampled_from([zone for zone in ZONES if zone not in ("UTC", "Asia/Kathmandu")]))
    day = datetime(draw(st.integers(2010, 2036)), 1, 1, tzinfo=timezone.utc)
    found = []
    for _ in range(365):
        later = day + timedelta(days=1)
        if day.astimezone(ZoneInfo(zone)).utcoffset() != later.astimezone(ZoneInfo(zone)).utcoffset():
            found.append(day)
        day = later
    near = draw(st.sampled_from(found or [day]))
    return zone, near + timedelta(seconds=draw(st.integers(-24 * 3600, 48 * 3600)))


# -- quiet hours -------------------------------------------------------------------------------------------------------


def is_quiet(hours, moment):
    """By the definition: whether the clock on the wall stands between the two."""
    wall = moment.astimezone(ZoneInfo(hours.zone)).time()
    if hours.begin < hours.end:
        return hours.begin <= wall < hours.end
    return not hours.end <= wall < hours.begin


def check(hours, now):
    until = hours.until(now)
    if not is_quiet(hours, now):
        assert until is None
        return
    assert until is not None
    assert now < until <= now + LONGEST_DAY
    assert hours.until(until) is None
    # Nor was there a minute before in which it could have been told.
    minute = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while minute < until:
        assert is_quiet(hours, minute), minute
        minute += timedelta(minutes=1)


@given(hours(), moments)
def test_the_quiet_ends_at_the_first_moment_that_is_not_quiet_and_within_a_day(hours, now):
    check(hours, now)


@given(hours(), changes())
def test_so_it_does_when_the_clock_is_changed(hours, change):
    zone, now = change

    check(QuietHours(hours.begin, hours.end, zone), now)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-06-01T21:59:59", None),
        ("2026-06-01T22:00", "2026-06-02T07:00"),
        ("2026-06-01T23:30:15", "2026-06-02T07:00"),
        ("2026-06-02T00:00", "2026-06-02T07:00"),
        ("2026-06-02T06:59:59", "2026-06-02T07:00"),
        ("2026-06-02T07:00", None),
        ("2026-12-31T23:00", "2027-01-01T07:00"),
    ],
)
@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "Asia/Kathmandu"])
def test_they_may_reach_over_midnight(now, until, zone):
    ends = quiet("22:00", "07:00", zone).until(at(now, zone))

    assert ends == (until and at(until, zone))


def test_they_may_lie_within_a_day():
    lunch = quiet("12:00", "13:30", NEW_YORK)

    assert lunch.until(at("2026-06-01T11:59", NEW_YORK)) is None
    assert lunch.until(at("2026-06-01T12:00", NEW_YORK)) == at("2026-06-01T13:30", NEW_YORK)
    assert lunch.until(at("2026-06-01T13:30", NEW_YORK)) is None


@pytest.mark.parametrize(
    ("zone", "now", "until", "hours"),
    [
        (BERLIN, "2026-03-28T22:00", "2026-03-29T07:00", 8),  # put forward: the night is shorter
        (BERLIN, "2026-10-24T22:00", "2026-10-25T07:00", 10),  # put back: longer
        (NEW_YORK, "2026-03-07T22:00", "2026-03-08T07:00", 8),
        (NEW_YORK, "2026-10-31T22:00", "2026-11-01T07:00", 10),
        (LORD_HOWE, "2026-10-03T22:00", "2026-10-04T07:00", 8.5),
        (LORD_HOWE, "2026-04-04T22:00", "2026-04-05T07:00", 9.5),
        ("America/Sao_Paulo", "2018-11-03T22:00", "2018-11-04T07:00", 8),  # the day began at one
    ],
)
def test_they_end_by_the_wall_in_a_night_in_which_the_clock_is_changed(zone, now, until, hours):
    begun = at(now, zone)

    ends = quiet("22:00", "07:00", zone).until(begun)

    assert ends == at(until, zone)
    assert ends - begun == timedelta(hours=hours)


def test_an_end_that_the_wall_never_shows_is_when_the_clock_has_passed_it():
    until_half_past_two = quiet("22:00", "02:30", BERLIN)  # on 29 March 2026 three o'clock follows two

    assert until_half_past_two.until(at("2026-03-28T23:00", BERLIN)) == at("2026-03-29T03:00", BERLIN)


def test_an_end_that_the_wall_shows_twice_is_one_each_time():
    until_half_past_two = quiet("22:00", "02:30", BERLIN)  # on 25 October 2026 two to three comes twice
    first, second = at("2026-10-25T02:30", BERLIN), at("2026-10-25T02:30", BERLIN, fold=1)

    assert until_half_past_two.until(at("2026-10-25T01:00", BERLIN)) == first
    assert until_half_past_two.until(first) is None
    assert until_half_past_two.until(at("2026-10-25T02:10", BERLIN, fold=1)) == second


def test_a_day_that_a_country_leaves_out_is_no_night_of_a_day_and_a_half():
    night = quiet("22:00", "07:00", "Pacific/Apia")  # 31 December 2011 followed the 29th

    assert night.until(at("2011-12-29T23:00", "Pacific/Apia")) == at("2011-12-31T07:00", "Pacific/Apia")


def test_the_moment_may_be_given_in_any_zone():
    night = quiet("22:00", "07:00", BERLIN)
    now = datetime(2026, 10, 24, 18, tzinfo=ZoneInfo(NEW_YORK))  # midnight in Berlin

    assert night.until(now) == at("2026-10-25T07:00", BERLIN)


# -- what a client sends -----------------------------------------------------------------------------------------------


def test_without_a_word_everything_is_told_at_any_time():
    assert Preferences.from_document({}) == Preferences()
    assert Preferences() == Preferences(frozenset(KINDS), None, frozenset())


def test_what_was_sent_is_what_counts():
    sent = {
        "kinds": ["failed", "completed"],
        "quiet_hours": {"from": "22:00", "to": "07:30", "time_zone": BERLIN, "then": "drop"},
        "muted": ["report", "export"],
    }

    preferences = Preferences.from_document(sent)

    assert preferences.quiet_hours == QuietHours(time(22), time(7, 30), BERLIN, DROP)
    assert preferences.document() == {
        **sent,
        "kinds": ["completed", "failed"],
        "muted": ["export", "report"],
    }


def test_quiet_hours_are_held_if_nothing_else_is_said():
    preferences = Preferences.from_document({"quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "UTC"}})

    assert preferences.quiet_hours == QuietHours(time(22), time(7), "UTC", HOLD)


@given(
    st.sets(st.sampled_from(KINDS)),
    st.none() | hours(),
    st.sets(st.text(min_size=1), max_size=5),
    st.sampled_from([HOLD, DROP]),
)
def test_what_is_stored_is_read_as_it_was(kinds, quiet_hours, muted, then):
    if quiet_hours is not None:
        quiet_hours = QuietHours(quiet_hours.begin, quiet_hours.end, quiet_hours.zone, then)
    preferences = Preferences(frozenset(kinds), quiet_hours, frozenset(muted))

    assert Preferences.from_document(preferences.document()) == preferences


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("completed", "lesson", True),
        ("failed", "lesson", False),
        ("completed", "report", False),
        ("progress", "lesson", False),
    ],
)
def test_a_kind_that_is_not_asked_for_and_a_name_that_is_muted_are_not_wanted(kind, name, wanted):
    preferences = Preferences.from_document({"kinds": ["completed", "cancelled"], "muted": ["report"]})

    assert preferences.wants(kind, name) is wanted


NIGHT = {"from": "22:00", "to": "07:00", "time_zone": BERLIN}


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (["completed"], "expected an object"),
        (None, "expected an object"),
        ({"kind": ["completed"]}, "'kind': no such preference. Did you mean 'kinds'?"),
        ({"kinds": "completed"}, "kinds: expected a list of non-empty strings"),
        ({"kinds": [1]}, "kinds: expected a list of non-empty strings"),
        ({"kinds": ["done"]}, "kinds: no such kind 'done'. Known here: cancelled, completed, failed, progress"),
        ({"muted": {"report": True}}, "muted: expected a list of non-empty strings"),
        ({"muted": [""]}, "muted: expected a list of non-empty strings"),
        ({"muted": [f"task{i}" for i in range(MAX_MUTED + 1)]}, f"muted: expected at most {MAX_MUTED} names"),
        ({"quiet_hours": "22:00-07:00"}, 'quiet_hours: expected {"from": "22:00"'),
        ({"quiet_hours": {}}, "quiet_hours.from: expected a time of day as HH:MM"),
        ({"quiet_hours": {**NIGHT, "from": "24:00"}}, "quiet_hours.from: expected a time of day as HH:MM"),
        ({"quiet_hours": {**NIGHT, "from": 22}}, "quiet_hours.from: expected a time of day as HH:MM"),
        ({"quiet_hours": {**NIGHT, "to": "7 am"}}, "quiet_hours.to: expected a time of day as HH:MM"),
        ({"quiet_hours": {**NIGHT, "to": "22:00"}}, "from and to are the same"),
        ({"quiet_hours": {**NIGHT, "until": "07:00"}}, "quiet_hours.until: no such field"),
        (
            {"quiet_hours": {"from": "22:00", "to": "07:00"}},
            "quiet_hours.time_zone: expected a name from the IANA database",
        ),
        ({"quiet_hours": {**NIGHT, "then": "later"}}, "quiet_hours.then: expected 'hold'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_is_wanted(sent, says):
    with pytest.raises(ValueError) as refused:
        Preferences.from_document(sent)

    assert says in str(refused.value)


@pytest.mark.parametrize(
    "zone", ["", "Europe", "Mars/Olympus", "../../etc/passwd", "Europe/Berlin\0", "\ud800", "Z" * 5000]
)
def test_a_zone_that_there_is_not_is_refused_whatever_it_looks_like(zone):
    with pytest.raises(ValueError, match=r"^quiet_hours\.time_zone: no zone .* in this server"):
        Preferences.from_document({"quiet_hours": {**NIGHT, "time_zone": zone}})
