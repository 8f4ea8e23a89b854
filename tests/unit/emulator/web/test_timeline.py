"""The geometry of the timeline: every moment lies where it belongs, whatever the stretch of time."""

from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmzon_secrets.emulator.account.stages import Stage, stages
from cmzon_secrets.emulator.account.takeovers import Takeover, as_of
from cmzon_secrets.emulator.account.tokens import IssuedToken
from cmzon_secrets.emulator.web import timeline, traffic
from cmzon_secrets.emulator.web.timeline import Window

NOON = 1_700_049_600.0  # 2023-11-15 12:00:00 UTC
HOUR, DAY = 3600.0, 86400.0
DEAD = (Stage.REVOKED, Stage.EXPIRED)
LIVES = st.tuples(st.integers(0, 9), st.sampled_from([1, 20]), st.sampled_from([None, 1, 4]))
"""Seconds: from noon to its first message, and from there to its expiry and its revocation."""


def token(seq: int = 1, created_at: float = NOON, **moments: Any) -> IssuedToken:
    return IssuedToken(seq, f"tok_{seq}", f"{seq:064}", "acme", (), (), created_at, **moments)


def begun(tokens: list[IssuedToken]) -> list[Takeover]:
    """To whom the traffic moved, where it moved with each one's first message alone."""
    began = [Takeover(each, at) for each in tokens if (at := each.promoted_at) is not None]
    return sorted(began, key=lambda takeover: (takeover.at, takeover.token.seq))


def the_bars(of: IssuedToken, others: list[IssuedToken], window: Window, now: float) -> list[Any]:
    """A token's bars among ``others`` of its name."""
    return bars_after(begun([of, *others]), of, window, now)


def bars_after(
    moves: list[Takeover], of: IssuedToken, window: Window, now: float
) -> list[tuple[str, float, float]]:
    """A token's bars after what happened in its name."""
    grace = timeline.graces(as_of(moves, now), now).get(of.id, [])
    return [(bar.kind, bar.start, bar.end) for bar in timeline.bars(of, grace, window, now)]


class TestWindows:
    def test_one_without_tokens_is_the_last_minute(self):
        assert timeline.fitting([], NOON) == Window(NOON - 60, NOON)

    def test_a_story_of_seconds_fills_its_picture_but_no_fewer_than_ten_are_shown(self):
        assert timeline.fitting([token(created_at=NOON - 3)], NOON) == Window(NOON - 10, NOON)
        assert timeline.fitting([token(created_at=NOON - 20)], NOON) == Window(NOON - 21, NOON)

    def test_a_fitted_one_begins_a_little_before_the_oldest_of_the_newest_eight(self):
        tokens = [token(n, NOON - 1000 + 100 * n) for n in range(10)]
        window = timeline.fitting(tokens, NOON)
        assert window.start == pytest.approx(NOON - 800 * 1.02)
        assert timeline.since_the_first(tokens, NOON).start == pytest.approx(NOON - 1000 * 1.02)

    def test_a_token_from_the_future_since_the_clock_was_set_back_does_no_harm(self):
        assert timeline.fitting([token(created_at=NOON + DAY)], NOON) == Window(NOON - 60, NOON)

    def test_what_lies_outside_is_placed_at_the_edge(self):
        window = Window(NOON, NOON + 100)
        places = [window.place(NOON + seconds) for seconds in (-5, 0, 25, 100, 900)]
        assert places == [0, 0, 25, 100, 100]


class TestTicks:
    @pytest.mark.parametrize(
        ("seconds", "labels"),
        [
            (60, ["11:59:00", "11:59:10", "11:59:20"]),
            (300, ["11:55", "11:56", "11:57"]),
            (15 * 60, ["11:46", "11:48", "11:50"]),
            (3 * HOUR, ["09:00", "09:30", "10:00"]),
            (20 * HOUR, ["18:00", "21:00", "00:00"]),
            (2 * DAY, ["12:00", "18:00", "Nov 14"]),
            (60 * DAY, ["Sep 20", "Sep 30", "Oct 10"]),
            (40 * 365 * DAY, ["1986-06", "1991-11", "1997-05"]),
        ],
    )
    def test_they_are_round_and_say_as_much_as_the_stretch_needs(self, seconds, labels):
        found = timeline.ticks(Window(NOON - seconds, NOON))
        assert [tick.label for tick in found][: len(labels)] == labels

    @pytest.mark.parametrize("seconds", [60, 61, 119, 600, 7777, DAY, 3.5 * DAY, 59 * DAY, 9e8])
    def test_there_are_few_at_even_distances_and_every_other_is_minor(self, seconds):
        found = timeline.ticks(Window(NOON - seconds, NOON))
        gaps = [b.place - a.place for a, b in pairwise(found)]
        assert 2 <= len(found) <= 10
        assert gaps == pytest.approx([gaps[0]] * len(gaps), abs=0.01)
        assert {a.minor ^ b.minor for a, b in pairwise(found)} == {True}


class TestBars:
    window = Window(NOON - 100, NOON + 100)

    def test_one_that_never_sent_waits_until_now(self):
        assert the_bars(token(), [], self.window, NOON + 50) == [("waiting", NOON, NOON + 50)]

    def test_one_that_sends_waited_and_then_serves_until_now(self):
        sending = token(promoted_at=NOON + 5)
        assert the_bars(sending, [], self.window, NOON + 50) == [
            ("waiting", NOON, NOON + 5),
            ("serving", NOON + 5, NOON + 50),
        ]

    def test_once_another_took_over_it_is_in_grace_until_it_is_revoked(self):
        replaced = token(promoted_at=NOON + 5, revoked_at=NOON + 40)
        successor = token(2, promoted_at=NOON + 30)
        assert the_bars(replaced, [successor], self.window, NOON + 50) == [
            ("waiting", NOON, NOON + 5),
            ("serving", NOON + 5, NOON + 30),
            ("grace", NOON + 30, NOON + 40),
        ]

    def test_one_revoked_before_another_took_over_had_no_grace(self):
        killed = token(promoted_at=NOON + 5, revoked_at=NOON + 20)
        successor = token(2, promoted_at=NOON + 30)
        assert the_bars(killed, [successor], self.window, NOON + 50)[-1] == (
            "serving",
            NOON + 5,
            NOON + 20,
        )

    def test_an_expiry_ends_it_only_once_it_has_come(self):
        expiring = token(expires_at=NOON + 40)
        assert the_bars(expiring, [], self.window, NOON + 30)[-1][2] == NOON + 30
        assert the_bars(expiring, [], self.window, NOON + 60)[-1][2] == NOON + 40
        assert timeline.ended_at(expiring, NOON + 39) is None
        assert timeline.ended_at(expiring, NOON + 40) == NOON + 40

    def test_what_is_over_before_the_window_begins_is_not_drawn(self):
        dead = token(created_at=NOON - 900, promoted_at=NOON - 800, revoked_at=NOON - 700)
        assert the_bars(dead, [], self.window, NOON) == []

    def test_bars_of_one_token_touch_and_stay_inside_the_picture(self):
        long_lived = token(created_at=NOON - 900, promoted_at=NOON - 50)
        bars = timeline.bars(long_lived, [(NOON, inf)], self.window, NOON + 100)
        assert [bar.kind for bar in bars] == ["waiting", "serving", "grace"]
        assert bars[0].place == 0
        for before, after in pairwise(bars):
            assert before.place + before.width == pytest.approx(after.place)
        assert bars[-1].place + bars[-1].width == pytest.approx(100)


class TestWhoTookOver:
    """Places in a name's story at which its traffic moved, and whose grace began or ended there."""

    window = Window(NOON - 100, NOON + 100)

    def test_traffic_moved_whenever_another_one_began_to_send(self):
        tokens = [
            token(1, promoted_at=NOON + 1),
            token(2),
            token(3, promoted_at=NOON + 9),
            token(4, promoted_at=NOON + 5),
        ]
        assert timeline.handovers(begun(tokens)) == [NOON + 5, NOON + 9]
        assert timeline.graces(begun(tokens), NOON + 20) == {
            "tok_1": [(NOON + 5, inf)],
            "tok_4": [(NOON + 9, inf)],
            "tok_3": [],
        }

    def test_of_two_in_the_same_moment_the_younger_takes_over(self):
        tokens = [token(2, promoted_at=NOON), token(1, promoted_at=NOON)]
        assert timeline.graces(begun(tokens), NOON + 9) == {
            "tok_1": [(NOON, inf)],
            "tok_2": [],
        }

    def test_grace_ends_with_the_death_of_all_that_took_over(self):
        tokens = [
            token(1, promoted_at=NOON),
            token(2, promoted_at=NOON + 10, revoked_at=NOON + 30),
            token(3, promoted_at=NOON + 20, expires_at=NOON + 40),
            token(4, promoted_at=NOON + 60, revoked_at=NOON + 70),
        ]
        assert timeline.graces(begun(tokens), NOON + 90)["tok_1"] == [
            (NOON + 10, NOON + 40),
            (NOON + 60, NOON + 70),
        ]

    def test_one_that_is_in_use_again_is_drawn_in_use_again(self):
        back = token(1, promoted_at=NOON + 5)
        killed = token(2, promoted_at=NOON + 30, revoked_at=NOON + 40)
        assert the_bars(back, [killed], self.window, NOON + 50) == [
            ("waiting", NOON, NOON + 5),
            ("serving", NOON + 5, NOON + 30),
            ("grace", NOON + 30, NOON + 40),
            ("serving", NOON + 40, NOON + 50),
        ]

    def test_one_that_is_in_use_again_since_a_moment_of_sixty_days_is_seen_to_be(self):
        by_hand = token(1, promoted_at=NOON + 5)
        rotated = token(2, promoted_at=NOON + 9, expires_at=NOON + 60 * DAY)
        now = NOON + 60 * DAY + 5
        grace = timeline.graces(begun([by_hand, rotated]), now)["tok_1"]
        *_, before, last = timeline.bars(by_hand, grace, Window(NOON, now), now)
        assert (before.kind, last.kind, last.width) == ("grace", "serving", timeline.THINNEST)
        assert last.place + last.width == 100

    @given(st.lists(LIVES, min_size=1, max_size=6))
    def test_the_last_bar_of_the_one_in_use_says_so_and_no_other_live_ones_does(self, lives):
        tokens = [
            token(
                seq,
                promoted_at=NOON + promoted,
                expires_at=NOON + promoted + expires,
                revoked_at=None if revoked is None else NOON + promoted + revoked,
            )
            for seq, (promoted, expires, revoked) in enumerate(lives, 1)
        ]
        now = NOON + 9.5
        found = timeline.graces(begun(tokens), now)
        for each, stage in zip(
            tokens, stages(tokens, {"acme": begun(tokens)}, now).values(), strict=True
        ):
            last = timeline.bars(each, found[each.id], self.window, now)[-1].kind
            assert (last == "serving") == (stage is Stage.CURRENT) or stage in DEAD

    def test_one_that_the_traffic_came_back_to_was_in_grace_until_then_and_the_other_is_since(self):
        old, new = token(1, promoted_at=NOON), token(2, promoted_at=NOON + 10)
        moves = [Takeover(old, NOON), Takeover(new, NOON + 10), Takeover(old, NOON + 30)]
        assert timeline.handovers(moves) == [NOON + 10, NOON + 30]
        assert timeline.graces(moves, NOON + 50) == {
            "tok_1": [(NOON + 10, NOON + 30)],
            "tok_2": [(NOON + 30, inf)],
        }
        assert bars_after(moves, old, self.window, NOON + 50)[1:] == [
            ("serving", NOON, NOON + 10),
            ("grace", NOON + 10, NOON + 30),
            ("serving", NOON + 30, NOON + 50),
        ]

    def test_of_a_clock_that_went_forward_and_back_the_order_is_left(self):
        tomorrow = token(2, NOON + DAY, promoted_at=NOON + DAY)
        old, newest = token(1, promoted_at=NOON), token(3, promoted_at=NOON + 10)
        moves = [Takeover(each, each.promoted_at) for each in (old, tomorrow, newest)]
        drawn = {
            each.id: bars_after(moves, each, self.window, NOON + 20)[-1]
            for each in (old, tomorrow, newest)
        }
        assert drawn == {
            "tok_1": ("grace", NOON + 10, NOON + 20),
            "tok_2": ("grace", NOON + 20, NOON + 20),
            "tok_3": ("serving", NOON + 10, NOON + 20),
        }

    @given(
        st.lists(st.sampled_from([None, 2, 6]), min_size=4, max_size=4),
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=8),
    )
    def test_it_is_so_wherever_the_traffic_went_back_to_and_whatever_the_clock_did(
        self, revoked, moves
    ):
        tokens = [
            token(seq, revoked_at=None if at is None else NOON + at)
            for seq, at in enumerate(revoked, 1)
        ]
        moved = []
        for which, at in moves:
            if not moved or moved[-1].token is not tokens[which]:
                moved.append(Takeover(tokens[which], NOON + at))
            if tokens[which].promoted_at is None:
                tokens[which].promoted_at = NOON + at
        now = NOON + 9.5
        for each, stage in zip(tokens, stages(tokens, {"acme": moved}, now).values(), strict=True):
            if stage in (Stage.CURRENT, Stage.PREVIOUS):
                bars = bars_after(moved, each, self.window, now)
                assert (bars[-1][0] == "serving") == (stage is Stage.CURRENT)
                assert all(end <= start for (_, _, end), (_, start, _) in pairwise(bars))


class TestMarks:
    window = Window(NOON, NOON + 1000)

    def test_each_moment_of_a_life_is_marked_in_its_order(self):
        lived = token(
            verified_at=NOON + 100,
            first_used_at=NOON + 200,
            promoted_at=NOON + 300,
            last_used_at=NOON + 400,
            revoked_at=NOON + 500,
            last_refused_at=NOON + 600,
            expires_at=NOON + 700,
        )
        found = timeline.marks(lived, self.window, NOON + 1000)
        assert [mark.place for mark in found] == [0, 10, 20, 30, 40, 50, 60, 70]
        assert {mark.kind for mark in found} == set(timeline.MARKS)

    def test_what_is_still_to_come_or_lies_outside_is_not_marked(self):
        expiring = token(created_at=NOON - 5, expires_at=NOON + 900)
        assert timeline.marks(expiring, self.window, NOON + 500) == []

    def test_a_first_use_is_marked_also_where_it_was_the_first_message(self):
        sending = token(first_used_at=NOON + 9.999, promoted_at=NOON + 10)
        kinds = [mark.kind for mark in timeline.marks(sending, self.window, NOON + 20)]
        assert kinds == ["issued", "first-used", "promoted"]

    def test_those_of_the_same_moment_stand_side_by_side_in_their_order(self):
        quick = token(verified_at=NOON, promoted_at=NOON, last_used_at=NOON)
        found = timeline.marks(quick, self.window, NOON)
        assert [mark.kind for mark in found] == ["issued", "verified", "promoted", "last-used"]
        assert [mark.place for mark in found] == pytest.approx([0, 1.1, 2.2, 3.3])
        assert [mark.narrow for mark in found] == pytest.approx([0, 3, 6, 9])  # on a phone

    def test_at_the_right_edge_they_make_room_to_the_left(self):
        end = self.window.end
        quick = token(created_at=end, verified_at=end, promoted_at=end, revoked_at=end)
        found = timeline.marks(quick, self.window, end)
        assert [mark.place for mark in found] == pytest.approx([96.7, 97.8, 98.9, 100])
        assert [mark.narrow for mark in found] == pytest.approx([91, 94, 97, 100])


class TestTraffic:
    minute = Window(NOON - 60, NOON)

    def test_columns_are_as_coarse_as_the_stretch_asks_and_none_where_they_would_be_too_thin(self):
        sizes = [traffic.bucket_for(Window(0, s)) for s in (60, 201, 900, HOUR, DAY, 2 * DAY)]
        assert sizes == [1, 2, 5, 30, 600, None]

    def test_a_bucket_has_the_mean_of_its_seconds_and_begins_at_a_round_moment(self):
        start = int(NOON) - 40
        activity = {start: 10, start + 1: 20, start + 4: 30, start + 5: 5, int(NOON) - 900: 99}
        assert traffic.gathered(activity, self.minute, 5) == {start: 12, start + 5: 1}

    def test_the_scale_is_the_highest_of_all_rows_and_never_below_one_message_a_second(self):
        assert traffic.tallest([{1: 3.0}, {2: 40.0}, {}]) == 40
        assert traffic.tallest([{1: 0.2}]) == traffic.tallest([]) == 1

    def test_a_column_has_its_place_and_its_height(self):
        always = Window(0, NOON)
        path = traffic.columns({int(NOON) - 30: 20.0}, always, self.minute, 1, 40.0)
        assert path == "M5000 100V50H5147V100z"

    def test_a_column_does_not_begin_before_the_token_sent_nor_last_longer(self):
        half = Window(NOON - 29.7, NOON - 29.4)
        path = traffic.columns({int(NOON) - 30: 40.0}, half, self.minute, 1, 40.0)
        assert path == "M5050 100V0H5100V100z"

    def test_a_column_cut_to_nothing_is_still_seen(self):
        moment = Window(NOON - 29.5, NOON - 29.5)
        path = traffic.columns({int(NOON) - 30: 40.0}, moment, self.minute, 1, 40.0)
        assert path == f"M5083 100V0H{5083 + traffic.THIN}V100z"

    def test_the_rate_is_that_of_the_last_five_whole_seconds(self):
        present = int(NOON)
        activity = dict.fromkeys(range(present - 60, present), 40) | {present: 7}
        assert traffic.traffic_of([activity], self.minute).rate == 40

    def test_a_pause_is_a_run_of_seconds_in_which_no_token_carried_a_message(self):
        first, second = {100: 1, 101: 1, 104: 1}, {102: 1, 110: 2}
        both = traffic.traffic_of([first, second], Window(90, 200))
        assert (both.messages, both.pause, both.last) == (6, 5, 110)

    def test_a_handover_within_a_second_is_no_pause(self):
        assert traffic.traffic_of([{100: 9, 101: 4}, {101: 5, 102: 9}], Window(90, 200)).pause == 0

    def test_what_was_sent_before_the_first_second_that_is_remembered_is_forgotten(self):
        sent = token(promoted_at=NOON - 50, last_used_at=NOON - 10, messages=5)
        assert traffic.forgotten(sent, {int(NOON) - 10: 5}) is None
        assert traffic.forgotten(sent, {int(NOON) - 20: 4}) == Window(NOON - 50, NOON - 20)
        assert traffic.forgotten(sent, {}) == Window(NOON - 50, NOON - 10)
        assert traffic.forgotten(token(), {}) is None

    def test_without_two_seconds_there_is_nothing_to_say_of_pauses(self):
        assert traffic.traffic_of([{100: 9}], Window(90, 200)).pause is None
        assert traffic.traffic_of([], Window(90, 200)) == traffic.Traffic(0, 0, None, None)
